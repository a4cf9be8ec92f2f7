"""Keeps what must not be lost: stages, bodies, releases, services, runs and the audit log.

Finished folders, records and operations enter; the same come back, verified byte by byte, or an error
that names what differs. Everything stands in one folder and one database; a process killed at any
instant leaves a store that opens and goes on. It must never answer with half-written or altered bytes,
never remove what a service names or its way back, and never write a secret to the log.
"""
