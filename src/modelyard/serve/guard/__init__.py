"""What keeps harm in bounds: admission, keys, breaker, retries, poison, fallback."""
