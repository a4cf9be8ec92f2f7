"""Decisions about releases in production, drills and ways back."""
