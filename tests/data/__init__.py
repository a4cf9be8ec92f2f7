"""The data room: what it reads, refuses, puts aside, splits and finds."""
