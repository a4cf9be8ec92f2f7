"""Routing, the wire and what comes back, each by itself."""

from __future__ import annotations

import socket
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelyard.bundle.check import check_rows
from modelyard.bundle.intake import Intake, Packed, join
from modelyard.core.arrays import Columns
from modelyard.core.contract import Column, Contract, Kind, Role
from modelyard.core.metrics import Task
from modelyard.core.release import Traffic
from modelyard.errors import EngineFailed
from modelyard.serve.batching import Settled, joined
from modelyard.serve.link import settle
from modelyard.serve.routing import choose
from modelyard.serve.wire import (
    LENGTH,
    AnswerFrame,
    BatchFrame,
    connect_to,
    listen_at,
    pack,
    to_answers,
    unpack_answer,
    unpack_batch,
)
from tests.serve.bodies import CLASSES, contract
from tests.serve.tensor_models import model_of, plain_column

# routing


def test_a_lone_release_gets_every_key() -> None:
    assert choose(Traffic(epoch=3, shares={"income@2": 1.0}), "x") == ("income@2", 1.0)


def test_keys_meet_releases_by_their_shares() -> None:
    traffic = Traffic(epoch=1, shares={"income@1": 0.9, "income@2": 0.1})
    met = [choose(traffic, f"key-{number}") for number in range(20_000)]
    canary = sum(release == "income@2" for release, _ in met)
    assert abs(canary - 2000) < 5 * (20_000 * 0.1 * 0.9) ** 0.5
    assert {chance for release, chance in met if release == "income@2"} == {0.1}


@given(st.text(max_size=20), st.floats(0.01, 0.5), st.floats(0.01, 0.49))
def test_a_key_that_met_the_newest_stays_with_it_as_its_share_widens(key: str, share: float, more: float) -> None:
    before = choose(Traffic(epoch=1, shares={"income@9": 1 - share, "income@10": share}), key)[0]
    wider = share + more
    after = choose(Traffic(epoch=2, shares={"income@10": wider, "income@9": 1 - wider}), key)[0]
    assert before == "income@9" or after == "income@10"


def test_a_release_without_share_is_never_met() -> None:
    traffic = Traffic(epoch=1, shares={"income@1": 1.0, "income@2": 0.0})
    assert {choose(traffic, str(number))[0] for number in range(500)} == {"income@1"}


# the wire

ROWS = st.lists(
    st.fixed_dictionaries(
        {
            "age": st.integers(-(2**53), 2**53),
            "score": st.none() | st.floats(allow_nan=False, allow_infinity=False),
            "city": st.none() | st.text(max_size=10),
            "seen": st.datetimes(min_value=datetime(1700, 1, 1), max_value=datetime(2200, 1, 1)).map(
                lambda moment: moment.isoformat()
            ),
        }
    ),
    min_size=1,
    max_size=8,
)


def _same(first: Columns, second: Columns) -> bool:
    return list(first) == list(second) and all(
        first[name].dtype == second[name].dtype
        and (
            first[name].tolist() == second[name].tolist()
            if first[name].dtype == object
            else first[name].tobytes() == second[name].tobytes()
        )
        for name in first
    )


@given(ROWS)
def test_columns_cross_the_wire_unchanged(rows: list[dict[str, Any]]) -> None:
    intake = Intake(contract())
    columns = check_rows(contract(), rows)
    data = pack(BatchFrame(7, len(rows), intake.pack(columns), 12.5, ["00-a-b-01"]))
    assert LENGTH.unpack(data[:4])[0] == len(data) - 4
    frame = unpack_batch(data[4:])
    assert (frame.id, frame.deadline, frame.traces) == (7, 12.5, ["00-a-b-01"])
    assert _same(intake.columns(frame.packed, frame.rows), columns)


@given(st.lists(ROWS, min_size=1, max_size=4))
def test_requests_put_behind_each_other_are_one_table(many: list[list[dict[str, Any]]]) -> None:
    intake = Intake(contract())
    packed = join([intake.pack(check_rows(contract(), rows)) for rows in many])
    whole = check_rows(contract(), [row for rows in many for row in rows])
    count = len(whole)
    assert _same(intake.columns(packed, count), whole)
    middle = count // 2
    again = join([intake.cut(packed, 0, middle, count), intake.cut(packed, middle, count, count)])
    assert _same(intake.columns(again, count), whole)


@given(st.integers(1, 5), st.data())
def test_answers_cross_the_wire_unchanged(rows: int, data: st.DataObject) -> None:
    floats = st.lists(st.floats(0, 1, width=32), min_size=rows * 2, max_size=rows * 2)
    table = np.array(data.draw(floats), dtype=np.float32).reshape(rows, 2)
    places = np.array(data.draw(st.lists(st.integers(0, 1), min_size=rows, max_size=rows)), dtype=np.int32)
    sent = pack(AnswerFrame(id=1, rows=rows, labels=places.tobytes(), probabilities=table.tobytes()))
    answers = to_answers(unpack_answer(sent[4:]), CLASSES)
    assert answers.probabilities is not None and answers.probabilities.tobytes() == table.tobytes()
    assert answers.labels is not None and answers.labels.tolist() == [CLASSES[place] for place in places]


@pytest.mark.parametrize("labels", [[-1], [2], [2**31 - 1], [0, 1], []])
def test_labels_that_name_no_class_are_refused(labels: list[int]) -> None:
    places = np.array(labels, dtype=np.int32).tobytes()
    frame = AnswerFrame(id=1, rows=1, labels=places, probabilities=np.zeros((1, 2), dtype=np.float32).tobytes())
    with pytest.raises(EngineFailed):
        to_answers(frame, CLASSES)


EIGHT = b"12345678"


@pytest.mark.parametrize(
    "packed",
    [
        Packed(),
        Packed(EIGHT * 3, []),
        Packed(EIGHT * 2, ["x"]),
        Packed(EIGHT * 2 + b"1234", ["x"]),
        Packed(EIGHT * 4, ["x"]),
        Packed(EIGHT * 3, ["x", "y"]),
        Packed(EIGHT * 3, ["x"], [EIGHT]),
    ],
)
def test_a_batch_that_does_not_fit_the_contract_is_refused(packed: Packed) -> None:
    with pytest.raises(EngineFailed):
        Intake(contract()).columns(packed, 1)


@given(st.binary(max_size=40), st.integers(1, 3), st.lists(st.lists(st.integers(-2, 3), max_size=2), max_size=2))
def test_tensors_that_do_not_fit_the_contract_are_refused_and_nothing_else_is_raised(
    piece: bytes, rows: int, shapes: list[list[int]]
) -> None:
    words = Column(name="w", kind=Kind.TENSOR, role=Role.FEATURE, nullable=False, datatype="BYTES", shape=(-1,))
    intake = Intake(Contract(task=Task.REGRESSION, target="y", columns=(words,)))
    try:
        columns = intake.columns(Packed(b"", [], [piece], shapes), rows)
    except EngineFailed:
        return
    assert columns["w"].shape[0] == rows
    assert intake.pack(columns).tensors == [piece]


def test_a_socket_is_reached_in_a_folder_with_a_very_long_path_and_is_private(tmp_path: Path) -> None:
    folder = tmp_path / ("x" * 120)
    folder.mkdir()
    with listen_at(folder, "income@1.0") as server, connect_to(folder, "income@1.0") as client:
        assert (folder / "income@1.0").stat().st_mode & 0o777 == 0o600
        client.sendall(b"hello")
        taken: socket.socket = server.accept()[0]
        with taken:
            assert taken.recv(5) == b"hello"


# answers


FLOATS = st.floats(width=32) | st.sampled_from([np.nan, np.inf, -np.inf])


@given(
    data=st.data(),
    rows=st.integers(1, 5),
    classes=st.sampled_from([("a", "b"), ("a", "b", "c"), ()]),
    bad=st.sets(st.integers(0, 6), max_size=6),
)
def test_lists_of_an_answer_are_its_arrays_and_nonsense_is_none(
    data: st.DataObject, rows: int, classes: tuple[str, ...], bad: set[int]
) -> None:
    wide = len(classes) or 1
    numbers = np.array(data.draw(st.lists(FLOATS, min_size=rows * wide, max_size=rows * wide)), dtype=np.float32)
    places = np.array(data.draw(st.lists(st.integers(-1, wide), min_size=rows, max_size=rows)), dtype=np.int32)
    parts: dict[str, Any] = (
        {"labels": places.tobytes(), "probabilities": numbers.tobytes()}
        if classes
        else {"values": numbers.astype(np.float64).tobytes()}
    )
    frame = AnswerFrame(id=1, rows=rows, bad=sorted(bad), reason="why", **parts)
    asked = model_of([plain_column("n", Kind.NUMBER)], task=Task.BINARY if classes else Task.REGRESSION)
    asked.classes = classes
    finite = [bool(np.isfinite(row).all()) for row in numbers.reshape(rows, wide)]
    sound = all(finite[row] or row in bad for row in range(rows))
    sound = sound and (not classes or all(0 <= place < wide for place in places))
    if len(bad) >= rows:
        assert settle(frame, asked).failed
        return
    if not sound:
        with pytest.raises(EngineFailed):
            settle(frame, asked)
        return
    found, wanted = settle(frame, asked), to_answers(frame, classes)
    assert (found.bad, found.reason, found.count) == (frozenset(bad), "why", rows)
    if wanted.values is not None:
        np.testing.assert_array_equal(found.values, wanted.values)
    else:
        assert wanted.labels is not None and wanted.probabilities is not None
        assert found.labels == wanted.labels.tolist()
        np.testing.assert_array_equal(found.probabilities, wanted.probabilities.tolist())


@pytest.mark.parametrize("change", [{"labels": b""}, {"probabilities": b"1234"}, {"values": b"12345678"}, {"rows": 2}])
def test_an_answer_of_a_wrong_shape_is_none(change: dict[str, Any]) -> None:
    asked = model_of([plain_column("n", Kind.NUMBER)])
    good: dict[str, Any] = {"labels": b"\0" * 4, "probabilities": b"\0" * 8, "rows": 1, "id": 1}
    assert settle(AnswerFrame(**good), asked).labels == ["no"]
    with pytest.raises(EngineFailed):
        settle(AnswerFrame(**good | change), asked)


def test_values_that_are_finite_but_not_their_sum_are_an_answer() -> None:
    asked = model_of([plain_column("n", Kind.NUMBER)], task=Task.REGRESSION)
    values = np.array([1e308, 1e308])
    assert settle(AnswerFrame(id=1, rows=2, values=values.tobytes()), asked).values == [1e308, 1e308]


def test_a_settled_batch_says_whether_it_has_answers() -> None:
    assert Settled(reason="worker_failed").failed
    assert not Settled(values=[1.0]).failed


@given(st.lists(st.integers(1, 4), min_size=1, max_size=5), st.booleans())
def test_answers_cut_and_put_behind_each_other_are_the_same(sizes: list[int], is_regression: bool) -> None:
    rows = sum(sizes)
    if is_regression:
        whole = Settled(values=[float(row) for row in range(rows)])
    else:
        whole = Settled(labels=[str(row) for row in range(rows)], probabilities=[[row, 1.0] for row in range(rows)])
    pieces, start = [], 0
    for size in sizes:
        pieces.append(whole.rows(start, size))
        start += size
    again = joined(pieces)
    assert (again.labels, again.probabilities, again.values) == (whole.labels, whole.probabilities, whole.values)
    assert again.count == rows and [piece.count for piece in pieces] == sizes
