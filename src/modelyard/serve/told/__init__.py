"""What a service tells: counts, log, traces."""
