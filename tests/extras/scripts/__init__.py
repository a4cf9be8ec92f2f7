"""Programs that run in an environment of their own; each takes its arguments as words and writes one line of JSON."""
