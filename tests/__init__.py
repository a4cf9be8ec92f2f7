"""The tests of Modelyard."""
