"""A service's front process."""

from __future__ import annotations

import sys

from modelyard import __version__
from modelyard.core.clock import SystemClock
from modelyard.core.codec import decode
from modelyard.serve.front import front
from modelyard.serve.messages import FrontJob


def main() -> None:
    """Run until told to stop."""
    front(decode(sys.stdin.buffer.read(), FrontJob), clock=SystemClock(), version=__version__)
