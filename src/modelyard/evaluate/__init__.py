"""Measuring a packed bundle: rows and truth enter, observations with intervals, curves and verdicts leave.

What is measured is the body that is sealed, never a proxy. It must never fit anything, never choose by the
test rows, and never judge by anything but `measure.judge`.
"""
