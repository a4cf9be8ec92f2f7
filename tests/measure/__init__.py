"""Tests of the maths, against scipy, scikit-learn, and simulation."""
