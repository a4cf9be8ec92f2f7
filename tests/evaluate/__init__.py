"""Measuring packed bundles: parity, slices, the choice, the gate, importance, timing."""
