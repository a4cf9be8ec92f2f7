"""Keeping it running: supervision, processes, traffic changes, management."""
