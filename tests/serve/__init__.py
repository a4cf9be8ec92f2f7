"""The service: its parts, and whole services of real processes."""
