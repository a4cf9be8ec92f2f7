"""Decisions about releases in production."""
