"""The gRPC door with a client of another house, over a real desk and worker."""

from __future__ import annotations

import queue
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest

from tests.serve.bodies import CLASSES, ROW, expected
from tests.serve.grpc_front import GrpcFront, grpc_front
from tests.serve.grpc_protos import infer_request, of

ROOT = "/inference.GRPCInferenceService/"
HEALTH = "/grpc.health.v1.Health/"
TIMEOUT_S = 20.0


@pytest.fixture(scope="module")
def front(bodies: dict[str, tuple[Path, str]], tmp_path_factory: pytest.TempPathFactory) -> Iterator[GrpcFront]:
    with grpc_front(tmp_path_factory.mktemp("grpc"), bodies["income@1"]) as made:
        yield made


@pytest.fixture(scope="module")
def channel(front: GrpcFront) -> Iterator[grpc.Channel]:
    with grpc.insecure_channel(front.address) as made:
        yield made


def ask(channel: grpc.Channel, method: str, request: Any, answer: str, **options: Any) -> Any:
    """Call a method of one message."""
    path = method if method.startswith("/") else ROOT + method
    stub = channel.unary_unary(path, type(request).SerializeToString, of(answer).FromString)
    return stub(request, **{"timeout": TIMEOUT_S, **options})


def fault(channel: grpc.Channel, method: str, request: Any, **options: Any) -> grpc.RpcError:
    """Return how a call fails."""
    with pytest.raises(grpc.RpcError) as caught:
        ask(channel, method, request, "Nothing", **options)
    return caught.value


def rows(*ages: int, model: str = "income") -> Any:
    """Return a request for rows that differ in age, with typed contents."""
    return infer_request(
        model,
        age=("INT64", list(ages)),
        score=("FP64", [ROW["score"]] * len(ages)),
        city=("BYTES", [ROW["city"].encode()] * len(ages)),
        seen=("BYTES", [ROW["seen"].encode()] * len(ages)),
    )


def raw(*ages: int) -> Any:
    """Return the same with raw contents."""
    request = rows(*ages)
    for one in request.inputs:
        one.ClearField("contents")

    def texts(name: str) -> bytes:
        one = str(ROW[name]).encode()
        return (struct.pack("<I", len(one)) + one) * len(ages)

    numbers = (struct.pack(f"<{len(ages)}q", *ages), struct.pack("<d", ROW["score"]) * len(ages))
    request.raw_input_contents.extend([*numbers, texts("city"), texts("seen")])
    return request


def shares(*ages: int) -> Any:
    """Return the probability of the second class, by plain arithmetic."""
    return 1 / (1 + np.exp(-np.array(expected([{**ROW, "age": age} for age in ages]))))


def test_typed_contents_are_answered_in_typed_contents(channel: grpc.Channel) -> None:
    request = rows(20, 40, 90)
    request.id = "mine"
    answer = ask(channel, "ModelInfer", request, "ModelInferResponse")
    assert (answer.model_name, answer.model_version, answer.id) == ("income", "1", "mine")
    assert {key: value.string_param or value.bool_param for key, value in answer.parameters.items()} == {
        "served_by": "income@1",
        "degraded": False,
    }
    label, probabilities = answer.outputs
    assert (label.name, label.datatype, list(label.shape)) == ("label", "BYTES", [3])
    assert (probabilities.name, probabilities.datatype, list(probabilities.shape)) == ("probabilities", "FP32", [3, 2])
    np.testing.assert_allclose(probabilities.contents.fp32_contents[1::2], shares(20, 40, 90), atol=1e-6)
    assert list(label.contents.bytes_contents) == [CLASSES[int(one > 0.5)].encode() for one in shares(20, 40, 90)]
    assert not answer.raw_output_contents


def test_raw_contents_are_answered_in_raw_contents(channel: grpc.Channel) -> None:
    answer = ask(channel, "ModelInfer", raw(20, 90), "ModelInferResponse")
    np.testing.assert_allclose(np.frombuffer(answer.raw_output_contents[1], "<f4")[1::2], shares(20, 90), atol=1e-6)
    assert [list(one.shape) for one in answer.outputs] == [[2], [2, 2]]
    assert answer.raw_output_contents[0].startswith(struct.pack("<I", 5))


def test_only_the_outputs_asked_for_come_back(channel: grpc.Channel) -> None:
    request = raw(30)
    request.outputs.add(name="probabilities")
    answer = ask(channel, "ModelInfer", request, "ModelInferResponse")
    assert [one.name for one in answer.outputs] == ["probabilities"]
    assert len(answer.raw_output_contents) == 1


def test_a_version_that_is_there_may_be_named(channel: grpc.Channel) -> None:
    request = rows(30)
    request.model_version = "1"
    assert ask(channel, "ModelInfer", request, "ModelInferResponse").model_version == "1"


def test_answers_say_who_gave_them_and_the_id_of_their_request(channel: grpc.Channel) -> None:
    stub = channel.unary_unary(ROOT + "ModelInfer", lambda one: one.SerializeToString(), bytes)
    _, call = stub.with_call(rows(30), metadata=[("x-request-id", "asked-1")], timeout=TIMEOUT_S)
    said = dict(call.initial_metadata())
    assert (said["x-request-id"], said["x-served-by"]) == ("asked-1", "income@1")


def without(request: Any, *, inputs: int = 0, raw_ones: int = 0) -> Any:
    del request.inputs[len(request.inputs) - inputs :]
    del request.raw_input_contents[len(request.raw_input_contents) - raw_ones :]
    return request


def changed(place: int, **fields: Any) -> Any:
    request = rows(30)
    for name, value in fields.items():
        setattr(request.inputs[place], name, value)
    return request


def both() -> Any:
    request = raw(30)
    request.inputs[0].contents.int64_contents.append(30)
    return request


@pytest.mark.parametrize(
    ("request_of", "code", "words"),
    [
        (lambda: rows(30, model="nobody"), "NOT_FOUND", "no model `nobody`"),
        (lambda: of("ModelInferRequest")(model_name="income", model_version="9"), "NOT_FOUND", "income@9"),
        (lambda: of("ModelInferRequest")(model_name="income"), "INVALID_ARGUMENT", "`inputs` is empty"),
        (lambda: without(rows(30), inputs=1), "INVALID_ARGUMENT", "column `seen`: is missing"),
        (lambda: without(raw(30), raw_ones=1), "INVALID_ARGUMENT", "4 inputs came with 3 raw contents"),
        (lambda: changed(0, name="score"), "INVALID_ARGUMENT", ""),
        (lambda: changed(0, datatype="INT99"), "INVALID_ARGUMENT", "INT99"),
        (lambda: changed(0, datatype="FP16"), "INVALID_ARGUMENT", "only raw contents"),
        (lambda: changed(0, datatype="FP64"), "INVALID_ARGUMENT", "in `int64_contents`, wanted `fp64_contents`"),
        (both, "INVALID_ARGUMENT", "beside raw ones"),
        (lambda: rows(*[30] * 10_001), "RESOURCE_EXHAUSTED", "at most 10000"),
    ],
)
def test_a_request_at_fault_is_told_what_is_wrong(
    channel: grpc.Channel, request_of: Any, code: str, words: str
) -> None:
    caught = fault(channel, "ModelInfer", request_of())
    assert caught.code().name == code
    assert words in caught.details()


def test_bytes_that_are_no_message_are_refused(channel: grpc.Channel) -> None:
    stub = channel.unary_unary(ROOT + "ModelInfer", bytes, bytes)
    for data in (b"\xff", b"\x0a\x05ab", b"\x0a\x02\xff\xff"):
        with pytest.raises(grpc.RpcError) as caught:
            stub(data, timeout=TIMEOUT_S)
        assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT


def test_methods_that_are_not_here_are_not_implemented(channel: grpc.Channel) -> None:
    nothing = of("Nothing")()
    for path in ("/nobody/Nothing", ROOT + "LogSettings", ROOT + "SystemSharedMemoryStatus", "/"):
        assert fault(channel, path, nothing).code() is grpc.StatusCode.UNIMPLEMENTED


def test_models_are_not_loaded_through_this_door(channel: grpc.Channel) -> None:
    request = of("RepositoryModelRequest")(model_name="income")
    for method in ("RepositoryModelLoad", "RepositoryModelUnload"):
        assert fault(channel, method, request).code() is grpc.StatusCode.PERMISSION_DENIED


def test_server_and_model_say_what_they_are(channel: grpc.Channel) -> None:
    nothing, named = of("Nothing")(), of("Named")(name="income")
    assert ask(channel, "ServerLive", nothing, "Yes").yes
    assert ask(channel, "ServerReady", nothing, "Yes").yes
    assert ask(channel, "ModelReady", named, "Yes").yes
    assert fault(channel, "ModelReady", of("Named")(name="x")).code() is grpc.StatusCode.NOT_FOUND
    server = ask(channel, "ServerMetadata", nothing, "ServerMetadata")
    assert (server.name, server.version) == ("modelyard", "test")
    model = ask(channel, "ModelMetadata", named, "ModelMetadata")
    assert (model.name, list(model.versions), model.platform) == ("income", ["1"], "onnx")
    assert [(one.name, one.datatype, list(one.shape)) for one in (*model.inputs, *model.outputs)] == [
        ("age", "INT64", [-1]),
        ("score", "FP64", [-1]),
        ("city", "BYTES", [-1]),
        ("seen", "BYTES", [-1]),
        ("label", "BYTES", [-1]),
        ("probabilities", "FP32", [-1, 2]),
    ]
    config = ask(channel, "ModelConfig", named, "ModelConfig").config
    assert (config.name, config.max_batch_size) == ("income", 10_000)
    assert [(one.name, one.data_type, list(one.dims)) for one in config.input][:2] == [
        ("age", 9, [1]),
        ("score", 12, [1]),
    ]


def test_the_index_lists_what_is_served(channel: grpc.Channel) -> None:
    (one,) = ask(channel, "RepositoryIndex", of("RepositoryIndexRequest")(ready=True), "RepositoryIndex").models
    assert (one.name, one.version, one.state, one.reason) == ("income", "1", "READY", "")


def test_trace_settings_are_read_and_not_written(channel: grpc.Channel) -> None:
    request = of("TraceSetting")(model_name="income")
    assert list(ask(channel, "TraceSetting", request, "TraceSetting").settings["trace_level"].value) == ["OFF"]
    request.settings["trace_rate"].value.append("1")
    assert fault(channel, "TraceSetting", request).code() is grpc.StatusCode.PERMISSION_DENIED


def test_statistics_count_what_was_asked(channel: grpc.Channel) -> None:
    def stats() -> Any:
        return ask(channel, "ModelStatistics", of("Named")(name="income"), "ModelStatistics").model_stats[0]

    before = stats()
    ask(channel, "ModelInfer", rows(30, 31), "ModelInferResponse")
    fault(channel, "ModelInfer", without(rows(30), inputs=1))
    after = stats()
    assert after.inference_count - before.inference_count == 2
    assert after.execution_count - before.execution_count == 1
    assert after.inference_stats.success.count - before.inference_stats.success.count == 1
    assert after.inference_stats.success.ns > before.inference_stats.success.ns
    assert after.inference_stats.fail.count - before.inference_stats.fail.count == 1


def test_a_stream_is_answered_in_order_and_goes_on_behind_errors(channel: grpc.Channel) -> None:
    stub = channel.stream_stream(
        ROOT + "ModelStreamInfer", lambda one: one.SerializeToString(), of("ModelStreamInferResponse").FromString
    )
    requests = []
    for place in range(300):
        request = rows(20 + place % 50) if place % 10 else rows(30, model="nobody")
        request.id = str(place)
        requests.append(request)
    answers = list(stub(iter(requests), timeout=TIMEOUT_S))
    assert [answer.infer_response.id for answer in answers] == [str(place) for place in range(300)]
    for place, answer in enumerate(answers):
        assert bool(answer.error_message) == (place % 10 == 0)
        if place % 10:
            share = answer.infer_response.outputs[1].contents.fp32_contents[1]
            assert share == pytest.approx(shares(20 + place % 50)[0], abs=1e-6)


def test_a_stream_answers_while_it_is_open(channel: grpc.Channel) -> None:
    stub = channel.stream_stream(
        ROOT + "ModelStreamInfer", lambda one: one.SerializeToString(), of("ModelStreamInferResponse").FromString
    )
    waiting: queue.Queue[Any] = queue.Queue()
    stream = stub(iter(waiting.get, None), timeout=TIMEOUT_S)
    for age in (20, 30):
        waiting.put(rows(age))
        answer = next(stream)
        assert answer.infer_response.outputs[1].contents.fp32_contents[1] == pytest.approx(shares(age)[0], abs=1e-6)
        assert answer.infer_response.parameters["triton_final_response"].bool_param
    waiting.put(None)
    assert list(stream) == []
    assert stream.code() is grpc.StatusCode.OK


def test_messages_may_be_compressed(channel: grpc.Channel) -> None:
    for kind in (grpc.Compression.Gzip, grpc.Compression.Deflate):
        answer = ask(channel, "ModelInfer", rows(*[30] * 100), "ModelInferResponse", compression=kind)
        assert list(answer.outputs[0].shape) == [100]


def test_a_message_that_unpacks_beyond_the_bound_is_refused(front: GrpcFront, channel: grpc.Channel) -> None:
    request = of("ModelInferRequest")(model_name="income", raw_input_contents=[bytes(front.limits.most_body_bytes)])
    caught = fault(channel, "ModelInfer", request, compression=grpc.Compression.Gzip)
    assert caught.code() is grpc.StatusCode.RESOURCE_EXHAUSTED


def test_health_is_told_and_watched(front: GrpcFront, channel: grpc.Channel) -> None:
    def check(name: str) -> int:
        request = of("HealthCheckRequest")(service=name)
        return int(ask(channel, HEALTH + "Check", request, "HealthCheckResponse").status)

    assert [check(""), check("income")] == [1, 1]
    assert fault(channel, HEALTH + "Check", of("HealthCheckRequest")(service="x")).code() is grpc.StatusCode.NOT_FOUND
    stub = channel.unary_stream(
        HEALTH + "Watch", lambda one: one.SerializeToString(), of("HealthCheckResponse").FromString
    )
    watch = stub(of("HealthCheckRequest")(service="income"), timeout=TIMEOUT_S)
    strange = stub(of("HealthCheckRequest")(service="x"), timeout=TIMEOUT_S)
    assert [next(watch).status, next(strange).status] == [1, 3]
    front.do(lambda: setattr(front.desk, "draining", True))
    assert next(watch).status == 2
    assert check("income") == 2
    front.do(lambda: setattr(front.desk, "draining", False))
    assert next(watch).status == 1
    watch.cancel()
    strange.cancel()
