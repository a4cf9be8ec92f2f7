"""A service's engine worker: one release's bundle in a process of its own.

Libraries are loaded before the job is read: a process may stand by for one. Where none comes it ends.
"""

from __future__ import annotations

import sys

from modelyard.adapters.onnx_engine import OnnxLoader
from modelyard.core.codec import decode
from modelyard.serve.messages import WorkerJob
from modelyard.serve.worker import work


def main() -> None:
    """Run until told to stop."""
    data = sys.stdin.buffer.read()
    if data:
        work(decode(data, WorkerJob), OnnxLoader())
