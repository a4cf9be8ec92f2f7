"""The main path, one file a journey: build (read this first), contenders, gate.

It knows rooms and ports, never adapters or the store. What passes between rooms are the records of `core`.
"""
