"""Requests in their usual words: read by the worker, and told of by the front, exactly as if read whole at once."""

from __future__ import annotations

import json
import os
import signal
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import TensorProto, helper

from modelyard.bundle.intake import Packed, join_texts
from modelyard.bundle.steps import Preprocess, TensorStep
from modelyard.core.contract import Column, Contract, Kind, Role
from modelyard.core.metrics import Task
from modelyard.errors import ContractBroken, EngineFailed
from modelyard.serve.doors import Malformed, TooLarge
from modelyard.serve.messages import Limits
from modelyard.serve.v2.door import V2Door
from modelyard.serve.v2.short import MOST_NUMBER_BYTES, SELDOM, Short, TextReader
from tests.serve.load import V2
from tests.serve.running import Running, eventually, service
from tests.serve.tensor_bodies import write_sealed
from tests.serve.tensor_models import asking, contract_of, model_of, tensor_column

WIDE = 4
DATATYPES = ["FP32", "FP64", "FP16", "INT8", "INT64", "UINT8", "UINT64"]


def body(text: str, *, datatype: str = "FP32", wide: int = WIDE, gap: str = "") -> bytes:
    return f'{{"inputs":[{{"name":"x",{gap}"shape":[1,{wide}],"datatype":"{datatype}","data":[{text}]}}]}}'.encode()


def numbers(draw: st.DrawFn, datatype: str) -> str:
    plain: st.SearchStrategy[Any] = st.floats(-1e4, 1e4, width=16) | st.integers(0, 100)
    whole = st.integers(0, 100)
    odd = st.sampled_from(
        ["1e999", "null", "NaN", '"1"', "[1]", "-", "1e3", "-0.0", "300", "1 ", "\n2", "true", "]", "}"]
    )
    one = st.one_of((plain if datatype.startswith("FP") else whole).map(json.dumps), odd)
    usual = (plain if datatype.startswith("FP") else whole).map(json.dumps)
    many = draw(st.lists(usual, min_size=WIDE, max_size=WIDE) | st.lists(one, min_size=1, max_size=WIDE + 1))
    return draw(st.sampled_from([",", ", ", " ,"])).join(many)


@st.composite
def texts(draw: st.DrawFn) -> tuple[str, str]:
    datatype = draw(st.sampled_from(DATATYPES))
    text = numbers(draw, datatype)
    place = draw(st.integers(0, len(text)))
    return datatype, draw(st.sampled_from([text, text, text[:place], text[:place] + '],"data":[' + text[place:]]))


@given(texts())
def test_the_worker_reads_what_the_front_would_and_leaves_it_the_rest(drawn: tuple[str, str]) -> None:
    datatype, text = drawn
    model = model_of([tensor_column("x", datatype, WIDE)])
    door = V2Door(leaves_texts=True)
    assert door.read(asking(body("1,2,3,4", datatype=datatype)), model).packed.tensors
    request = asking(body(text, datatype=datatype))
    asked = door.read(request, model) if text else None
    if asked is None or not asked.packed.texts:
        return
    read, unread = TextReader(model.contract).read(asked.packed)
    try:
        whole = V2Door().read(request, model)
    except (Malformed, TooLarge, ContractBroken):
        assert unread == [0]
        return
    assert whole.rows == 1 and whole.id is None and whole.wishes is None
    assert unread == [0] or read == whole.packed
    assert asked.whole(request).packed == whole.packed


def test_only_what_is_in_the_same_words_is_left_to_the_worker() -> None:
    model, door = model_of([tensor_column("x", "FP32", WIDE)]), V2Door(leaves_texts=True)
    door.read(asking(body("1,2,3,4")), model)
    assert door.read(asking(body("5, -6.5,7e2,8")), model).packed.texts == [b"5, -6.5,7e2,8"]
    assert door.read(asking(body("1,2,3,4", gap=" ")), model).packed.tensors
    assert door.read(asking(body("1,2,3,4").replace(b"}]}", b'}],"id":"a"}')), model).id == "a"
    with pytest.raises(Malformed):
        door.read(asking(body("1," + "0" * MOST_NUMBER_BYTES * WIDE)), model)  # too long for numbers
    head = body("1,2,3,4")
    binary = asking(head, inference_header_content_length=b"%d" % len(head))
    assert door.read(binary, model).packed.tensors


@pytest.mark.parametrize(
    "words",
    [
        body("1,2,3,4").replace(b'"x"', b'"data"'),
        body("1,2,3,4").replace(b'"data"', b'"d\\u0061ta"'),
    ],
)
def test_words_that_could_be_taken_for_others_are_not_learned(words: bytes) -> None:
    short = Short(V2Door()._know(model_of([tensor_column("x", "FP32", WIDE)])).lone)  # type: ignore[arg-type]
    short.learn(words)
    assert short.numbers(words) is None


def test_clients_that_take_turns_are_learned_from_seldom() -> None:
    model, door = model_of([tensor_column("x", "FP32", WIDE)]), V2Door(leaves_texts=True)
    first, second = asking(body("1,2,3,4")), asking(body("1,2,3,4", gap="  "))
    door.read(first, model)
    left = [bool(door.read(second, model).packed.texts) for _ in range(SELDOM + 1)]
    assert left == [False] * SELDOM + [False]
    assert door.read(second, model).packed.texts and door.read(first, model).packed.tensors


def test_rows_read_by_either_keep_their_order() -> None:
    reader = TextReader(contract_of([tensor_column("x", "FP32", 2)]))

    def read(*rows: float) -> Packed:
        return Packed(tensors=[np.array(rows, dtype=np.float32).tobytes()])

    many = [read(1, 2, 3, 4), Packed(texts=[b"5,6"]), read(7, 8), Packed(texts=[b"9,"]), Packed(texts=[b"11,12"])]
    found, unread = reader.read(join_texts(many, [2, 1, 1, 1, 1]))
    assert np.frombuffer(found.tensors[0], dtype=np.float32).tolist() == [1, 2, 3, 4, 5, 6, 7, 8, 0, 0, 11, 12]
    assert unread == [4]
    with pytest.raises(EngineFailed):
        reader.read(Packed(tensors=[bytes(24)], texts=[b"", b"1,2"]))


def test_a_contract_without_a_small_tensor_takes_no_text() -> None:
    with pytest.raises(EngineFailed):
        TextReader(contract_of([tensor_column("x", "FP32", -1)]))


# through a whole service


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    folder = tmp_path_factory.mktemp("short") / "body"
    target = Column(name="target", kind=Kind.NUMBER, role=Role.TARGET, nullable=False)
    columns = (tensor_column("x", "FP32", WIDE), target)
    contract = Contract(task=Task.REGRESSION, target="target", columns=columns)
    nodes = [
        helper.make_node("ReduceSum", ["x", "axes"], ["sum"], keepdims=0),
        helper.make_node("Cast", ["sum"], ["value"], to=TensorProto.DOUBLE),
    ]
    axes = helper.make_tensor("axes", TensorProto.INT64, [1], [1])
    inputs = [helper.make_tensor_value_info("x", TensorProto.FLOAT, [None, WIDE])]
    outputs = [helper.make_tensor_value_info("value", TensorProto.DOUBLE, [None])]
    graph = helper.make_graph(nodes, "sums", inputs, outputs, [axes])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 15)], ir_version=8)
    rows = ({"x": [1, 2, 3, 4]}, {"x": [0.5, 0, 0, -1]})
    steps = Preprocess(version=1, steps=(TensorStep(column="x"),))
    return folder, write_sealed(folder, contract, steps, model.SerializeToString(), rows)


@pytest.fixture(scope="module")
def running(made: tuple[Path, str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    with service(tmp_path_factory.mktemp("short") / "run", {"income@1": made}) as one:
        assert ask(one, body("1,2,3,4")).json()["outputs"][0]["data"] == [10.0]
        yield one


def ask(running: Running, data: bytes, **headers: str) -> httpx2.Response:
    return httpx2.post(f"http://127.0.0.1:{running.port}{V2}", content=data, headers=headers, timeout=20)


@pytest.mark.parametrize(
    "text",
    ["1,2,3", "1,2,3,4,5", "1,2,3,null", "1,2,3,1e999", "1,2,3,1e300", "1,2,,3", '1,2,3,"4"', "1,2,3,[4]", "1,2],3"],
)
def test_what_is_wrong_is_told_as_if_it_had_been_read_at_once(running: Running, text: str) -> None:
    in_usual_words, otherwise = ask(running, body(text)), ask(running, body(text, gap="\t"))
    assert in_usual_words.status_code == otherwise.status_code in (400, 422)
    told, wanted = in_usual_words.json(), otherwise.json()
    told.pop("request_id"), wanted.pop("request_id")
    if "byte" not in wanted["error"]:  # where in the body it is differs by the gap
        assert told == wanted
    assert ask(running, body("1,1,1,1")).json()["outputs"][0]["data"] == [4.0]


def test_those_beside_one_that_cannot_be_read_have_their_answers(running: Running) -> None:
    def work(place: int) -> None:
        for step in range(30):
            bad = (place + step) % 3 == 0
            many = (place + step) % 5 == 0
            if many:
                data = body("1,2,3,4,5,6,7,8").replace(b"[1,4]", b"[2,4]")
                replies.append((ask(running, data), [10.0, 26.0]))
            else:
                reply = ask(running, body(f"{place},{step},0.5," + ("x" if bad else "1")))
                replies.append((reply, None if bad else [place + step + 1.5]))

    replies: list[tuple[httpx2.Response, list[float] | None]] = []
    threads = [threading.Thread(target=work, args=(place,)) for place in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(replies) == 240
    for reply, wanted in replies:
        assert reply.status_code == (400 if wanted is None else 200)
        assert wanted is None or reply.json()["outputs"][0]["data"] == wanted


def test_where_the_worker_hangs_the_fallback_answers_what_can_be_read(made: tuple[Path, str], tmp_path: Path) -> None:
    limits = Limits(progress_timeout_s=30.0, deadline_ms=20_000)
    with service(tmp_path / "run", {"income@1": made}, limits=limits) as own:
        assert ask(own, body("1,2,3,4")).status_code == 200
        os.kill(own.pid_of("worker"), signal.SIGSTOP)
        good = ask(own, body("1,2,3,4"), **{"x-deadline-ms": "300"})
        bad = ask(own, body("1,2,3,x"), **{"x-deadline-ms": "300"})
        assert (good.status_code, good.headers["x-degraded"]) == (200, "deadline")
        assert good.json()["outputs"][0]["data"] == [-1.5]
        assert bad.status_code == 400 and "x-degraded" not in bad.headers
        os.kill(own.pid_of("worker"), signal.SIGCONT)
        eventually(lambda: ask(own, body("1,2,3,4")).headers.get("x-degraded") is None)


def test_the_counts_know_each_request_once(running: Running) -> None:
    def counts() -> list[float]:
        door = 'modelyard_requests_total{release="income@1",door="v2",code='
        return [running.metric(f'{door}"{code}"}}') for code in (200, 400)]

    before = counts()
    for text in ("1,2,3,4", "1,2,3,oops", "4,3,2,1"):
        ask(running, body(text))
    assert [new - old for new, old in zip(counts(), before, strict=True)] == [2, 1]
    assert running.metric("modelyard_breaker_opened_total") == 0
