"""Candidates, search and fitting: a prepared table enters, fitted graphs with their validation answers leave.

Every fit runs in a process of its own with bounds on memory and time and hands back files, never an
object. It must never see the test rows' target, and never choose by anything but the validation rows.
"""
