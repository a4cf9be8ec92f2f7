"""REST GRPC RELEASE ROWS CERT KEY: ask a service over both of its fronts with the client of KServe.

REST is an address with its scheme, GRPC one without. ROWS is a JSON file of `types` and `values` by column. CERT
and KEY are empty where the service speaks no TLS and asks for no key.
"""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Awaitable
from pathlib import Path
from typing import Any

import grpc  # type: ignore[import-not-found,import-untyped,unused-ignore]
import httpx  # type: ignore[import-not-found,unused-ignore]
import numpy as np
from kserve import (  # type: ignore[import-not-found]
    InferenceGRPCClient,
    InferenceRESTClient,
    InferInput,
    InferRequest,
    RESTConfig,
)
from kserve.errors import InferenceError, InvalidInput  # type: ignore[import-not-found]
from kserve.protocol.infer_type import RequestedOutput  # type: ignore[import-not-found]

TYPES = {"INT64": np.int64, "FP64": np.float64, "BYTES": np.object_, "BOOL": np.bool_}
MANY = 50


class Asking:
    """What is asked, however it travels."""

    def __init__(self, release: str, rows: str) -> None:
        self.model, _, self.version = release.partition("@")
        given = json.loads(Path(rows).read_text())
        self.types: dict[str, str] = given["types"]
        self.values: dict[str, list[Any]] = given["values"]

    def request(self, *, binary: bool, model: str | None = None, leave: str = "", **more: Any) -> Any:
        """Return a request; numbers are (rows, 1), strings (rows,)."""
        inputs = [self._input(name, binary=binary) for name in self.values if name != leave]
        return InferRequest(model_name=model or self.model, infer_inputs=inputs, **more)

    def _input(self, name: str, *, binary: bool) -> Any:
        array: Any = np.array(self.values[name], dtype=TYPES[self.types[name]])
        shaped = array if self.types[name] == "BYTES" else array.reshape(-1, 1)
        tensor = InferInput(name, list(shaped.shape), self.types[name])
        tensor.set_data_from_numpy(shaped, binary_data=binary)
        return tensor


async def main(rest: str, grpc_at: str, release: str, rows: str, cert: str, key: str) -> None:
    asking = Asking(release, rows)
    told = {"rest": await by_rest(rest, asking, cert, key), "grpc": await by_grpc(grpc_at, asking, cert, key)}
    sys.stdout.write(json.dumps(told) + "\n")


async def by_rest(at: str, asking: Asking, cert: str, key: str) -> dict[str, Any]:
    headers = {"Authorization": f"Bearer {key}"} if key else {}
    model, about = asking.model, {"headers": headers}
    async with InferenceRESTClient(RESTConfig(protocol="v2", retries=1, verify=cert or True)) as client:

        async def infer(request: Any, name: str = model) -> Any:
            return await client.infer(at, request, model_name=name, headers=dict(headers))

        outputs = [RequestedOutput("label", {"binary_data": False}), RequestedOutput("probabilities")]
        return {
            "live": await client.is_server_live(at, **about),
            "ready": await client.is_server_ready(at, **about),
            "model_ready": await client.is_model_ready(at, model, **about),
            "stranger_ready": await client.is_model_ready(at, "stranger", **about),
            "json": _told(await infer(asking.request(binary=False, request_id="asked-1"))),
            "raw": _told(await infer(asking.request(binary=True, request_id="asked-1"))),
            "both ways raw": _told(
                await infer(asking.request(binary=True, request_id="asked-1", parameters={"binary_data_output": True}))
            ),
            "outputs": _told(await infer(asking.request(binary=False, request_id="asked-1", request_outputs=outputs))),
            "many": await _many(lambda: infer(asking.request(binary=True))),
            "refused": {
                "stranger": await _refused(infer(asking.request(binary=False, model="stranger"), "stranger")),
                "missing": await _refused(infer(asking.request(binary=False, leave=next(iter(asking.values))))),
                "no key": await _refused(client.infer(at, asking.request(binary=False), model_name=model)),
            },
        }


async def by_grpc(at: str, asking: Asking, cert: str, key: str) -> dict[str, Any]:
    headers = [("authorization", f"Bearer {key}")] if key else []
    model = asking.model
    async with InferenceGRPCClient(at, use_ssl=bool(cert), root_certificates=cert or None, timeout=20) as client:

        async def infer(request: Any) -> Any:
            return await client.infer(request, headers=headers)

        wanted = [RequestedOutput("probabilities"), RequestedOutput("label")]
        stranger = asking.request(binary=True, model="stranger")
        return {
            "live": await client.is_server_live(headers=headers),
            "ready": await client.is_server_ready(headers=headers),
            "model_ready": await client.is_model_ready(model, headers=headers),
            "stranger_ready": await _refused(client.is_model_ready("stranger", headers=headers)),
            "typed": _told(await infer(asking.request(binary=False, request_id="asked-1"))),
            "raw": _told(await infer(asking.request(binary=True, request_id="asked-1"))),
            "version": _told(
                await infer(asking.request(binary=True, request_id="asked-1", model_version=asking.version))
            ),
            "outputs": _told(await infer(asking.request(binary=True, request_id="asked-1", request_outputs=wanted))),
            "many": await _many(lambda: infer(asking.request(binary=True))),
            "refused": {
                "stranger": await _refused(infer(stranger)),
                "missing": await _refused(infer(asking.request(binary=True, leave=next(iter(asking.values))))),
                "no key": await _refused(client.infer(asking.request(binary=True))),
            },
        }


async def _many(ask: Any) -> int:
    """Ask many times at once; return how many answers came."""
    return len(await asyncio.gather(*(ask() for _ in range(MANY))))


def _told(answer: Any) -> dict[str, Any]:
    """Return the outputs, read by the client's own reader where it can read them."""
    found: dict[str, Any] = {"id": answer.id, "model": answer.model_name, "order": [one.name for one in answer.outputs]}
    for output in answer.outputs:
        values: Any = output.as_numpy() if output.data is None or isinstance(output.data, list) else _contents(output)
        flat = [one.decode() if isinstance(one, bytes) else one for one in np.asarray(values).tolist()]
        found[output.name] = flat
    return found


def _contents(output: Any) -> Any:
    """Read typed contents here: the client takes them as they are."""
    contents = output.data
    values = [one.decode() for one in contents.bytes_contents] or list(contents.fp32_contents)
    return np.array(values).reshape(list(output.shape))


async def _refused(act: Awaitable[Any]) -> str:
    """Return the status of a refusal."""
    try:
        await act
    except httpx.HTTPStatusError as fault:
        return str(fault.response.status_code)
    except grpc.RpcError as fault:
        return str(fault.code())
    except (InferenceError, InvalidInput) as fault:
        return f"the client itself: {fault}"
    return "answered"


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
