"""The timing process: one job on standard input, its timings on standard output."""

from __future__ import annotations

import sys

from modelyard.adapters.onnx_engine import OnnxLoader
from modelyard.core.codec import decode, encode
from modelyard.evaluate.timing import TimingJob, run_timing


def main() -> None:
    """Answer one job."""
    job = decode(sys.stdin.buffer.read(), TimingJob)
    sys.stdout.buffer.write(encode(run_timing(job, OnnxLoader())))
