"""Bodies that answer their golden requests as sealed, and callers badly."""

from __future__ import annotations

from pathlib import Path

import onnx
from msgspec.structs import replace

from modelyard.adapters.onnx_harm import Harm, spoilt
from modelyard.bundle.format import GRAPH, MANIFEST, FileEntry, Manifest
from modelyard.core.codec import decode, digest, encode
from tests.serve.bodies import GOLDEN_ROWS


def spoil(folder: Path, harm: Harm, *, amount: int = 0) -> str:
    """Spoil the graph of the body in `folder`, and return its new digest."""
    model = onnx.load_model_from_string((folder / GRAPH).read_bytes())
    for place, node in enumerate(model.graph.node):  # two nodes must not have the same name, nor none
        node.name = f"node_{place}"
    graph = spoilt(model.SerializeToString(), harm, golden_rows=len(GOLDEN_ROWS), amount=amount)
    (folder / GRAPH).write_bytes(graph)
    manifest = decode((folder / MANIFEST).read_bytes(), Manifest)
    files = {**manifest.files, GRAPH: FileEntry(size=len(graph), sha256=digest(graph))}
    data = encode(replace(manifest, files=files))
    (folder / MANIFEST).write_bytes(data)
    return digest(data)
