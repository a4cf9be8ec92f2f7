"""The main path, its rooms wired by the real composition root."""
