"""Whole journeys, as the README tells them, and what they survive."""
