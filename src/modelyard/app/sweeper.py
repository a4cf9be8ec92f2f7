"""A process of the sweep: its job and what it is asked on standard input, what it saw on standard output."""

from __future__ import annotations

import sys

from modelyard.adapters.onnx_engine import OnnxLoader
from modelyard.evaluate.sweep_child import run_sweep


def main() -> None:
    """Answer until standard input ends."""
    run_sweep(sys.stdin.buffer, sys.stdout.buffer, OnnxLoader())
