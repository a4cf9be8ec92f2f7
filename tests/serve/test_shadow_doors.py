"""Shadows behind every door: several fronts, gRPC, and tensors of many lengths."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from pathlib import Path

import grpc
import numpy as np

from tests.serve.bodies import ROW
from tests.serve.entry import changes
from tests.serve.grpc_protos import infer_request, of
from tests.serve.load import V2
from tests.serve.running import Running, eventually, service
from tests.serve.tensor_bodies import expected, write_tensor_body
from tests.serve.test_deploy import row_of
from tests.serve.test_shadow import OTHER, copied, fates, shadowed
from tests.serve.test_tensor_service import rows_of, tensors

INFER = "/inference.GRPCInferenceService/ModelInfer"
TYPES = {"age": "INT64", "score": "FP64", "city": "BYTES", "seen": "BYTES"}


def all_copied(running: Running, before: int, rows: int) -> None:
    """Wait until so many rows were copied, and each copy was answered."""
    eventually(lambda: copied(running, OTHER) == before + rows and fates(running, OTHER) == {"answered": before + rows})


def agreed(running: Running) -> tuple[int, int]:
    same, other = (
        int(running.metric(f'modelyard_shadow_compared_rows_total{{release="{OTHER}",answer="{what}"}}'))
        for what in ("same", "other")
    )
    return same, other


def test_what_every_front_answers_is_copied_once(bodies: dict[str, tuple[Path, str]], tmp_path: Path) -> None:
    with service(tmp_path / "income", bodies, fronts=2, grpc_port=0) as running:
        running.wait_ready()
        shadowed(running, OTHER)
        before = copied(running, OTHER)
        for number in range(20):  # each on a connection of its own, which either front may take
            assert running.predict({**ROW, "age": 20 + number}).status == 200
        all_copied(running, before, 20)
        values = {name: ROW[name].encode() if kind == "BYTES" else ROW[name] for name, kind in TYPES.items()}
        request = infer_request("income", **{name: (kind, [values[name]] * 3) for name, kind in TYPES.items()})
        with grpc.insecure_channel(f"127.0.0.1:{running.status().run.grpc_port}") as channel:
            ask = channel.unary_unary(INFER, type(request).SerializeToString, of("ModelInferResponse").FromString)
            for _ in range(10):
                assert len(ask(request, timeout=20, wait_for_ready=True).outputs[0].contents.bytes_contents) == 3
        all_copied(running, before, 20 + 30)


def test_tensors_of_many_lengths_are_copied_and_agree(tmp_path: Path) -> None:
    made = {name: (tmp_path / name, write_tensor_body(tmp_path / name)) for name in ("income@1", OTHER)}
    asked = [rows_of(1 + place % 3, 1 + place % 7, seed=place) for place in range(40)]
    total = sum(map(len, asked))

    def ask(some: Sequence[int]) -> None:
        for place in some:
            told = running.ask("POST", V2, tensors(asked[place])).json["outputs"][0]["data"]
            answers[place] = np.allclose(told, expected(asked[place]), rtol=1e-5)

    answers: dict[int, bool] = {}
    with service(tmp_path / "income", made) as running:
        epoch = row_of(running.folder).traffic.epoch
        changes(running.folder).set_traffic(
            "income", {"income@1": 1.0, OTHER: 0.0}, shadow={OTHER: 1.0}, expect_epoch=epoch
        )
        threads = [threading.Thread(target=ask, args=(range(first, 40, 4),)) for first in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert list(answers.values()) == [True] * 40
        all_copied(running, 0, total)
        assert agreed(running) == (total, 0)
