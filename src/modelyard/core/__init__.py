"""Facts and abilities that every room shares: records, ports, codec, clock, ids.

Nothing enters and nothing leaves but types. It must never import another room, read a setting or
know a library other than numpy and msgspec.
"""
