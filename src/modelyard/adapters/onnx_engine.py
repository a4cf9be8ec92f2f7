"""ONNX Runtime behind the Engine port."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import onnxruntime as ort

from modelyard.core.arrays import Array
from modelyard.core.ports import Engine
from modelyard.errors import BundleFormat, EngineFailed

ort.set_default_logger_severity(4)  # fatal only: its errors carry input values, and every failure is raised anyway


class OnnxEngine:
    """A graph in ONNX Runtime."""

    def __init__(self, session: Any) -> None:
        self._session = session
        self._names = [output.name for output in session.get_outputs()]

    def run(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        try:
            answers = self._session.run(self._names, inputs)
        except Exception as fault:
            raise EngineFailed(f"The graph could not be run: {str(fault)[:500]}") from fault
        return dict(zip(self._names, answers, strict=True))

    def close(self) -> None:
        self._session = None


class OnnxLoader:
    """Opens graphs on the CPU."""

    def load(self, graph: Path | bytes, *, threads: int = 1) -> Engine:
        options = ort.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        # Threads spin for each other within a run, which is quicker than to sleep; behind it they take nobody's core.
        options.add_session_config_entry("session.force_spinning_stop", "1")
        source = str(graph) if isinstance(graph, Path) else graph
        try:
            session = ort.InferenceSession(source, options, providers=["CPUExecutionProvider"])
        except Exception as fault:
            raise BundleFormat(f"The graph cannot be loaded: {str(fault)[:500]}") from fault
        return OnnxEngine(session)
