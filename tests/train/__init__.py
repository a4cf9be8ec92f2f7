"""Encodings, the search and its budget, the fitting process and how it ends."""
