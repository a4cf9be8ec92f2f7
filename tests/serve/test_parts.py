"""Batching, routing, the wire and the fallback, each by itself."""

from __future__ import annotations

import socket
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelyard.bundle.check import check_rows
from modelyard.bundle.open import read_body
from modelyard.core.arrays import Columns
from modelyard.core.metrics import Task
from modelyard.core.release import Traffic
from modelyard.errors import BundleFormat, EngineFailed, Overloaded
from modelyard.serve import fallback
from modelyard.serve.batching import Queue, Settled, Work
from modelyard.serve.rehearsal import try_fallback
from modelyard.serve.routing import choose
from modelyard.serve.wire import (
    LENGTH,
    AnswerFrame,
    BatchFrame,
    connect_to,
    cut,
    join,
    listen_at,
    pack,
    to_answers,
    to_columns,
    to_parts,
    unpack_answer,
    unpack_batch,
)
from tests.serve.bodies import CLASSES, CONSTANT, REFUSE, contract, write_body


def work(rows: int, deadline: float = 10.0) -> Work:
    return Work(rows=rows, parts=[], deadline=deadline, settle=lambda work, settled, start: None)


# batching


@given(st.lists(st.integers(1, 8), max_size=60), st.integers(8, 20))
def test_batches_keep_the_order_and_never_pass_the_cap(sizes: list[int], cap: int) -> None:
    queue = Queue(most_rows=10_000, batch_rows=cap)
    works = [work(rows) for rows in sizes]
    for one in works:
        queue.put([one])
    left: list[Work] = []
    while batch := queue.take(0.0):
        assert sum(one.rows for one in batch) <= cap
        left.extend(batch)
    assert left == works
    assert queue.rows == 0


@given(
    st.lists(
        st.tuples(st.sampled_from(["put", "forget", "take"]), st.integers(1, 5), st.floats(0, 10), st.integers(0, 50)),
        max_size=80,
    )
)
def test_rows_that_wait_are_counted_truly_whatever_happens(steps: list[tuple[str, int, float, int]]) -> None:
    queue, alive, now = Queue(most_rows=40, batch_rows=5), list[Work](), 0.0
    for act, rows, when, which in steps:
        if act == "put":
            one = work(rows, deadline=now + when)
            if sum(other.rows for other in alive) + rows > 40:
                with pytest.raises(Overloaded):
                    queue.put([one])
            else:
                queue.put([one])
                alive.append(one)
        elif act == "forget" and alive:
            queue.forget(alive.pop(which % len(alive)))
        elif act == "take":
            now += when / 5
            batch = queue.take(now)
            assert all(one.deadline > now and not one.dead for one in batch)
            gone = set(map(id, batch)) | {id(one) for one in alive if not one.queued}
            alive = [one for one in alive if id(one) not in gone]
        assert queue.rows == sum(one.rows for one in alive)


def test_work_whose_caller_is_gone_or_late_does_not_run() -> None:
    queue = Queue(most_rows=10, batch_rows=10)
    gone, late, good = work(1), work(1, deadline=1.0), work(1)
    queue.put([gone, late, good])
    queue.forget(gone)
    assert queue.take(2.0) == [good]


def test_a_request_is_queued_whole_or_not_at_all() -> None:
    queue = Queue(most_rows=5, batch_rows=5)
    with pytest.raises(Overloaded):
        queue.put([work(3), work(3)])
    assert queue.rows == 0
    assert queue.take(0.0) == []


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
    features = contract().features
    columns = check_rows(contract(), rows)
    data = pack(BatchFrame(id=7, rows=len(rows), columns=to_parts(features, columns)))
    assert LENGTH.unpack(data[:4])[0] == len(data) - 4
    frame = unpack_batch(data[4:])
    assert frame.id == 7
    assert _same(to_columns(features, frame), columns)


@given(st.lists(ROWS, min_size=1, max_size=4))
def test_requests_put_behind_each_other_are_one_table(many: list[list[dict[str, Any]]]) -> None:
    features = contract().features
    parts = join([to_parts(features, check_rows(contract(), rows)) for rows in many])
    whole = check_rows(contract(), [row for rows in many for row in rows])
    assert _same(to_columns(features, BatchFrame(id=1, rows=len(whole), columns=parts)), whole)
    middle = len(whole) // 2
    again = join([cut(parts, 0, middle), cut(parts, middle, len(whole))])
    assert _same(to_columns(features, BatchFrame(id=1, rows=len(whole), columns=again)), whole)


@given(st.integers(1, 5), st.data())
def test_answers_cross_the_wire_unchanged(rows: int, data: st.DataObject) -> None:
    floats = st.lists(st.floats(0, 1, width=32), min_size=rows * 2, max_size=rows * 2)
    table = np.array(data.draw(floats), dtype=np.float32).reshape(rows, 2)
    places = np.array(data.draw(st.lists(st.integers(0, 1), min_size=rows, max_size=rows)), dtype=np.int32)
    sent = pack(AnswerFrame(id=1, rows=rows, labels=places.tobytes(), probabilities=table.tobytes()))
    answers = to_answers(unpack_answer(sent[4:]), CLASSES)
    assert answers.probabilities is not None and answers.probabilities.tobytes() == table.tobytes()
    assert answers.labels is not None and answers.labels.tolist() == [CLASSES[place] for place in places]


@pytest.mark.parametrize(
    "columns",
    [[], [b"", [], [], b""], [b"12345678", b"1234", ["x"], b"12345678"], [b"12345678", b"12345678", b"x", b"12345678"]],
)
def test_a_batch_that_does_not_fit_the_contract_is_refused(columns: list[Any]) -> None:
    with pytest.raises(EngineFailed):
        to_columns(contract().features, BatchFrame(id=1, rows=1, columns=columns))


def test_a_socket_is_reached_in_a_folder_with_a_very_long_path_and_is_private(tmp_path: Path) -> None:
    folder = tmp_path / ("x" * 120)
    folder.mkdir()
    with listen_at(folder, "income@1.0") as server, connect_to(folder, "income@1.0") as client:
        assert (folder / "income@1.0").stat().st_mode & 0o777 == 0o600
        client.sendall(b"hello")
        taken: socket.socket = server.accept()[0]
        with taken:
            assert taken.recv(5) == b"hello"


# the fallback


@pytest.mark.parametrize("given_shares", [{"<=50K": 0.75, ">50K": 0.25}, [0.75, 0.25]])
def test_a_constant_answers_with_its_label_and_shares(tmp_path: Path, given_shares: Sequence[float]) -> None:
    write_body(tmp_path / "b", fallback=[{**CONSTANT, "probabilities": given_shares}])
    settled = fallback.answer(read_body(tmp_path / "b"), 2)
    assert settled is not None
    assert (settled.labels, settled.probabilities) == (["<=50K"] * 2, [[0.75, 0.25]] * 2)


def test_refuse_and_an_empty_list_answer_nothing(tmp_path: Path) -> None:
    for number, entries in enumerate(([REFUSE, CONSTANT], [])):
        write_body(tmp_path / str(number), fallback=entries)
        assert fallback.answer(read_body(tmp_path / str(number)), 1) is None


@pytest.mark.parametrize(
    "entry",
    [
        {"kind": "magic"},
        {"kind": "constant", "label": "rich"},
        {"kind": "constant", "label": "<=50K", "probabilities": {"<=50K": 0.5}},
        {"kind": "constant", "label": "<=50K", "probabilities": [0.9, 0.9]},
    ],
)
def test_a_fallback_that_makes_no_sense_is_refused_and_its_rehearsal_fails(
    tmp_path: Path, entry: dict[str, Any]
) -> None:
    write_body(tmp_path / "b", fallback=[entry])
    body = read_body(tmp_path / "b")
    with pytest.raises(BundleFormat):
        fallback.answer(body, 1)
    assert not try_fallback(body).answered


@pytest.mark.parametrize(
    ("task", "entry", "said"),
    [
        (Task.BINARY, CONSTANT, "Answered the label `<=50K`, marked as degraded."),
        (Task.BINARY, REFUSE, "Refused with Retry-After."),
        (Task.REGRESSION, {"kind": "constant", "value": 12.5}, "Answered the value 12.5, marked as degraded."),
    ],
)
def test_the_way_back_is_tried_through_the_real_door(
    tmp_path: Path, task: Task, entry: dict[str, Any], said: str
) -> None:
    write_body(tmp_path / "b", task=task, fallback=[entry])
    evidence = try_fallback(read_body(tmp_path / "b"))
    assert (evidence.answered, evidence.kind, evidence.detail) == (True, entry["kind"], said)
    assert 0 < evidence.seconds < 5


def test_a_settled_batch_says_whether_it_has_answers() -> None:
    assert Settled(reason="worker_failed").failed
    assert not Settled(values=[1.0]).failed
