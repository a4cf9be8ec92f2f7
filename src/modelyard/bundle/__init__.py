"""What is served: the closed set of preprocessing steps, the format, opening, verifying, running rows.

Rows enter as JSON objects or as columns, answers leave. Training, evaluation and the service run this
code and no other, so that what was evaluated is what is served. It must never learn anything from data,
execute code found in a bundle, or import a heavy library.
"""
