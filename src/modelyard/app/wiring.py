"""Wiring a build: the store and the adapters behind the ports of `flow`."""

from __future__ import annotations

import hashlib
import platform
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path

from modelyard import __version__
from modelyard.adapters import onnx_graph, onnx_weights
from modelyard.adapters.onnx_engine import OnnxLoader
from modelyard.adapters.optuna import TpeSampler
from modelyard.app.settings import Settings
from modelyard.app.spawn import command_with_us, spawn
from modelyard.bundle.open import Answers
from modelyard.core.arrays import Columns
from modelyard.core.clock import SystemClock
from modelyard.core.encoding import Encoding, Head
from modelyard.core.machine import LIBRARIES
from modelyard.core.ports import Progress
from modelyard.data import TableFiles
from modelyard.flow.ports import Ports
from modelyard.serve.keep.children import spawner
from modelyard.serve.keep.probe import endpoint_answers
from modelyard.serve.messages import ERROR_FILE
from modelyard.store.open import Store

ENDPOINT_ROWS = 1000  # of one request to the service that is started to compare answers


class OnnxGraphs:
    """The Graphs port."""

    def featurizer(self, encoding: Encoding, widths: Mapping[str, int]) -> bytes:
        return onnx_graph.featurizer(encoding, widths)

    def whole(self, encoding: Encoding, widths: Mapping[str, int], estimator: bytes, head: Head) -> bytes:
        return onnx_graph.whole(encoding, widths, estimator, head)

    def split(self, graph: bytes, file: str) -> tuple[bytes, bytes]:
        return onnx_weights.split(graph, file)


def build_ports(store: Store, settings: Settings, progress: Progress) -> Ports:
    """Return everything that a build uses."""
    work = settings.home / "work"
    work.mkdir(parents=True, exist_ok=True)

    def endpoint(body: Path, columns: Columns) -> Answers:
        batches = (columns.take(slice(at, at + ENDPOINT_ROWS)) for at in range(0, len(columns), ENDPOINT_ROWS))
        return endpoint_answers(body, batches, spawn=spawner(work / ERROR_FILE, command=command_with_us()))

    return Ports(
        stages=store.stages,
        releases=store.releases,
        runs=store.runs,
        audit=store.audit,
        tables=TableFiles(),
        loader=OnnxLoader(),
        graphs=OnnxGraphs(),
        sampler=TpeSampler(),
        spawn=spawn,
        endpoint=endpoint,
        progress=progress,
        clock=SystemClock(),
        work=work,
        code_version=code_version(),
        change_ticket=settings.change_ticket,
        environment={"python": platform.python_version(), **{name: version(name) for name in LIBRARIES}},
    )


def code_version() -> str:
    """Return the version of this code: its number and a hash of its source."""
    root = Path(__file__).parent.parent
    total = hashlib.sha256()
    for path in sorted(root.rglob("*.py")):
        total.update(path.relative_to(root).as_posix().encode() + b"\0" + path.read_bytes())
    return f"{__version__}+{total.hexdigest()[:12]}"
