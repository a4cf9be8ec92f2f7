"""Copies of requests for releases that answer nobody: what they would have said, at no cost to callers."""
