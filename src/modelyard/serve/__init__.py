"""Doors over sealed bundles: a supervisor, a front and worker processes, each started with one JSON message.

A service's traffic table and the folders of its bundles enter; answers, metrics, logs and readiness leave. The
front holds HTTP, admission, batching, routing and the fallback; a worker holds one release's model and nothing
else; the supervisor holds the listening socket and replaces what fails. It must never run the model in the front,
touch the store on the request path, answer degraded without saying so, or execute code found in a bundle.
"""
