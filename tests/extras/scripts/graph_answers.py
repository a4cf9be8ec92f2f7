"""GRAPH ROWS: run a graph with ONNX Runtime alone on columns of JSON, and write its outputs."""

from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime


def main(graph: str, rows: str) -> None:
    named = json.loads(Path(rows).read_text())
    session = onnxruntime.InferenceSession(graph, providers=["CPUExecutionProvider"])
    inputs = {wanted.name: _tensor(wanted.type, named[wanted.name]) for wanted in session.get_inputs()}
    outputs = zip((output.name for output in session.get_outputs()), session.run(None, inputs), strict=True)
    told = {
        "inputs": {wanted.name: wanted.type for wanted in session.get_inputs()},
        "outputs": {name: answer.tolist() for name, answer in outputs},
        "ours": importlib.util.find_spec("modelyard") is not None,
    }
    sys.stdout.write(json.dumps(told) + "\n")


def _tensor(kind: str, values: list[Any]) -> Any:
    if kind == "tensor(string)":
        filled = ["<missing>" if value is None else value for value in values]
        return np.array(filled, dtype=object).reshape(-1, 1)
    return np.array([np.nan if value is None else value for value in values], dtype=np.float64).reshape(-1, 1)


if __name__ == "__main__":
    main(*sys.argv[1:])
