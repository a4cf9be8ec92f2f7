"""What a run will do and check, told before it is done.

A spec and a prepared table enter, lines with reasons leave. It must never measure: what it says of the
outcome is a projection, says so, and is held beside what came.
"""
