"""A rollout as it happens: begun, looked at, carried out and told. What is decided, `rollout` decides."""
