"""gRPC on HTTP/2: the protocol's service, health, and its door."""
