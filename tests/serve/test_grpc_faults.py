"""The gRPC door when things go wrong: workers that hang, keys, TLS, bounds, and a front that ends under load."""

from __future__ import annotations

import os
import signal
import threading
import time
from pathlib import Path
from typing import Any

import grpc
import pytest

from modelyard.serve.guard.keys import Keys, add_key
from modelyard.serve.guard.tls import server_context
from modelyard.serve.messages import KEYS_FILE, Limits
from modelyard.serve.request import Code
from tests.serve.certificates import CERT, KEY
from tests.serve.grpc_front import grpc_front
from tests.serve.grpc_protos import of
from tests.serve.test_grpc import ROOT, TIMEOUT_S, ask, fault, rows

Bodies = dict[str, tuple[Path, str]]


def test_a_worker_that_hangs_costs_nobody_their_deadline(bodies: Bodies, tmp_path: Path) -> None:
    with (
        grpc_front(tmp_path / "run", bodies["income@3"], limits=Limits(progress_timeout_s=60)) as front,
        grpc.insecure_channel(front.address) as channel,
    ):
        os.kill(front.worker.pid, signal.SIGSTOP)
        began = time.monotonic()
        stub = channel.unary_unary(ROOT + "ModelInfer", lambda one: one.SerializeToString(), bytes)
        with pytest.raises(grpc.RpcError) as caught:
            stub(rows(30), metadata=[("x-deadline-ms", "300")], timeout=TIMEOUT_S)
        assert caught.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
        with pytest.raises(grpc.RpcError) as caught:
            stub(rows(30), timeout=0.3)
        assert caught.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
        assert time.monotonic() - began < 2.0
        os.kill(front.worker.pid, signal.SIGCONT)


def test_a_model_that_cannot_be_reached_says_when_to_come_back(bodies: Bodies, tmp_path: Path) -> None:
    with (
        grpc_front(tmp_path / "run", bodies["income@3"]) as front,
        grpc.insecure_channel(front.address) as channel,
    ):
        front.worker.kill()
        front.worker.wait()
        caught = fault(channel, "ModelInfer", rows(30), metadata=[("x-deadline-ms", "2000")])
        assert caught.code() is grpc.StatusCode.UNAVAILABLE
        assert int(dict(caught.trailing_metadata())["retry-after"]) >= 1


def test_an_answer_of_the_fallback_says_so(bodies: Bodies, tmp_path: Path) -> None:
    with (
        grpc_front(tmp_path / "run", bodies["income@1"]) as front,
        grpc.insecure_channel(front.address) as channel,
    ):
        front.worker.kill()
        front.worker.wait()
        stub = channel.unary_unary(
            ROOT + "ModelInfer", lambda one: one.SerializeToString(), of("ModelInferResponse").FromString
        )
        answer, call = stub.with_call(rows(30, 31), metadata=[("x-deadline-ms", "2000")], timeout=TIMEOUT_S)
        said = dict(call.initial_metadata())
        assert "fallback:constant" in said["x-served-by"]
        assert said["x-degraded"] == answer.parameters["reason"].string_param
        assert answer.parameters["degraded"].bool_param
        assert list(answer.outputs[1].contents.fp32_contents) == [0.75, 0.25] * 2


def test_keys_are_asked_for_in_metadata(bodies: Bodies, tmp_path: Path) -> None:
    key = add_key(tmp_path, "caller", created="2026-01-01T00:00:00Z")
    with (
        grpc_front(tmp_path / "run", bodies["income@1"], keys=Keys(tmp_path / KEYS_FILE)) as front,
        grpc.insecure_channel(front.address) as channel,
    ):
        assert fault(channel, "ModelInfer", rows(30)).code() is grpc.StatusCode.UNAUTHENTICATED
        wrong = [("authorization", "Bearer nothing")]
        assert fault(channel, "ModelInfer", rows(30), metadata=wrong).code() is grpc.StatusCode.UNAUTHENTICATED
        for shown in (("authorization", f"Bearer {key}"), ("x-api-key", key)):
            assert ask(channel, "ModelInfer", rows(30), "ModelInferResponse", metadata=[shown]).outputs
        stream = channel.stream_stream(ROOT + "ModelStreamInfer", lambda one: one.SerializeToString(), bytes)
        with pytest.raises(grpc.RpcError) as caught:
            list(stream(iter([rows(30)]), timeout=TIMEOUT_S))
        assert caught.value.code() is grpc.StatusCode.UNAUTHENTICATED


def test_calls_come_through_tls(bodies: Bodies, tmp_path: Path) -> None:
    (tmp_path / "cert.pem").write_text(CERT)
    (tmp_path / "key.pem").write_text(KEY)
    context = server_context(str(tmp_path / "cert.pem"), str(tmp_path / "key.pem"))
    with grpc_front(tmp_path / "run", bodies["income@1"], tls=context) as front:
        trusting = grpc.ssl_channel_credentials(CERT.encode())
        port = front.address.partition(":")[2]
        with grpc.secure_channel(f"localhost:{port}", trusting) as channel:
            answer = ask(channel, "ModelInfer", rows(*[30] * 5_000), "ModelInferResponse")
            assert list(answer.outputs[0].shape) == [5_000]
        with grpc.insecure_channel(front.address) as channel:
            assert fault(channel, "ServerLive", of("Nothing")(), timeout=1.0).code() is not grpc.StatusCode.OK


def test_a_message_beyond_the_bound_is_refused_and_counted(bodies: Bodies, tmp_path: Path) -> None:
    with (
        grpc_front(tmp_path / "run", bodies["income@1"], limits=Limits(most_body_bytes=100_000)) as front,
        grpc.insecure_channel(front.address) as channel,
    ):
        request = of("ModelInferRequest")(model_name="income", raw_input_contents=[bytes(200_000)])
        assert fault(channel, "ModelInfer", request).code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        assert ask(channel, "ModelInfer", rows(30), "ModelInferResponse").outputs
        assert front.refused == [Code.TOO_LARGE]


class Caller(threading.Thread):
    """Asks over and over on a channel of its own until it cannot."""

    def __init__(self, address: str) -> None:
        super().__init__()
        self.address, self.answered, self.fault = address, 0, ""
        self.warm = threading.Event()

    def run(self) -> None:
        options = [("grpc.use_local_subchannel_pool", 1)]  # else all share one connection
        with grpc.insecure_channel(self.address, options=options) as channel:
            try:
                while True:
                    answer: Any = ask(channel, "ModelInfer", rows(30, 40), "ModelInferResponse")
                    assert not answer.parameters["degraded"].bool_param
                    self.answered += 1
                    if self.answered == 20:
                        self.warm.set()
            except grpc.RpcError as error:
                self.fault = f"{error.code().name}: {error.details()}"


def test_a_front_that_ends_under_load_loses_no_call(bodies: Bodies, tmp_path: Path) -> None:
    with grpc_front(tmp_path / "run", bodies["income@1"]) as front:
        callers = [Caller(front.address) for _ in range(6)]
        for caller in callers:
            caller.start()
        for caller in callers:
            assert caller.warm.wait(TIMEOUT_S)
        assert front.drain() == 0
        for caller in callers:
            caller.join(TIMEOUT_S)
        for caller in callers:  # nothing but the door being shut
            assert caller.fault.startswith("UNAVAILABLE: ") and "Connection refused" in caller.fault, caller.fault
        assert front.handled == sum(caller.answered for caller in callers)


def test_many_callers_at_once_are_all_answered(bodies: Bodies, tmp_path: Path) -> None:
    with (
        grpc_front(tmp_path / "run", bodies["income@1"]) as front,
        grpc.insecure_channel(front.address) as channel,
    ):
        stub = channel.unary_unary(ROOT + "ModelInfer", lambda one: one.SerializeToString(), bytes)
        calls = [stub.future(rows(20 + place % 60), timeout=TIMEOUT_S) for place in range(1_000)]
        assert all(call.result() for call in calls)
        assert front.listener.held_bytes == 0
