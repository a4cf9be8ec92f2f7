"""REST GRPC MODEL ROWS CERT KEY: ask both fronts of a service with an independent client, over TLS where CERT is given.

ROWS is a JSON file of `types` and `values` by column; CERT and KEY may be empty.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import tritonclient.grpc as by_grpc  # type: ignore[import-not-found]
import tritonclient.http as by_rest  # type: ignore[import-not-found]
from tritonclient.utils import triton_to_np_dtype  # type: ignore[import-not-found]


def main(rest: str, grpc: str, model: str, rows: str, cert: str, key: str) -> None:
    headers = {"authorization": f"Bearer {key}"} if key else {}
    over = {"ssl": True, "ssl_options": {"ca_certs": cert}} if cert else {}
    told: dict[str, Any] = {}
    with by_rest.InferenceServerClient(rest, **over) as client:
        told["rest"] = _ask(by_rest, client, model, rows, dict(headers))  # the client writes into them
    over = {"ssl": True, "root_certificates": cert} if cert else {}
    with by_grpc.InferenceServerClient(grpc, **over) as client:
        told["grpc"] = _ask(by_grpc, client, model, rows, headers)
    sys.stdout.write(json.dumps(told) + "\n")


def _ask(triton: Any, client: Any, model: str, rows: str, headers: dict[str, str]) -> dict[str, Any]:
    given = json.loads(Path(rows).read_text())
    inputs = []
    for name, values in given["values"].items():
        array: Any = np.array(values, dtype=triton_to_np_dtype(given["types"][name]))
        inputs.append(triton.InferInput(name, list(array.shape), given["types"][name]))
        inputs[-1].set_data_from_numpy(array)
    answer = client.infer(model, inputs, headers=headers)
    stats = client.get_inference_statistics(model, headers=headers)
    return {
        "ready": client.is_server_ready(headers=headers) and client.is_model_ready(model, headers=headers),
        "label": [value.decode() for value in answer.as_numpy("label")],
        "probabilities": answer.as_numpy("probabilities").tolist(),
        "count": _count(stats),
    }


def _count(stats: Any) -> int:
    """Return how many rows the service has answered by its own count, over all fronts."""
    if isinstance(stats, dict):
        return int(stats["model_stats"][0]["inference_count"])
    return int(stats.model_stats[0].inference_count)


if __name__ == "__main__":
    main(*sys.argv[1:])
