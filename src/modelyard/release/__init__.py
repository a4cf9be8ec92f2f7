"""Packing a body, and telling about releases: report, card, diff.

A fitted graph with its steps enters and a folder of data leaves; records of evidence enter and pages leave. It
must never measure, judge or change what was measured, and a body holds data only, never code.
"""
