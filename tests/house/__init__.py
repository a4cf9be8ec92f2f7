"""The house rules that no linter holds."""
