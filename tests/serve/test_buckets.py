"""Requests share a batch where their shapes are equal, and only there; what padding would cost instead."""

from __future__ import annotations

import time
from collections import defaultdict

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from modelyard.adapters.onnx_engine import OnnxLoader
from modelyard.bundle.intake import Intake, join
from modelyard.core.arrays import Array, Columns
from modelyard.core.contract import Column, Contract, Kind, Role
from modelyard.core.metrics import Task
from modelyard.core.ports import Engine
from modelyard.serve.guard.buckets import ALL, bucket_of, may_share
from tests.evaluate.texts import WORDS, text_graph

SHAPES = st.lists(st.lists(st.integers(0, 3), max_size=3), max_size=3)


@given(SHAPES, SHAPES)
def test_requests_share_a_batch_exactly_where_the_shapes_of_their_rows_are_equal(
    one: list[list[int]], other: list[list[int]]
) -> None:
    assert may_share(one, other) == (one == other)
    assert may_share(one, [list(shape) for shape in one])


def test_the_shapes_that_packed_rows_carry_are_those_of_a_row() -> None:
    ids = Column(name="ids", kind=Kind.TENSOR, role=Role.FEATURE, nullable=False, datatype="INT64", shape=(-1,))
    intake = Intake(Contract(task=Task.REGRESSION, target="y", columns=(ids,)))
    short, also_short, long = (
        intake.pack(Columns({"ids": np.zeros((rows, length), dtype=np.int64)}))
        for rows, length in ((1, 5), (3, 5), (1, 6))
    )
    assert may_share(short.shapes, also_short.shapes) and not may_share(short.shapes, long.shapes)
    assert len(intake.columns(join([short, also_short]), 4)) == 4


def test_models_without_free_dimensions_have_one_bucket() -> None:
    assert bucket_of([]) is ALL and may_share([], [])


def text_model(*, layers: int = 2) -> Engine:
    return OnnxLoader().load(text_graph(layers=layers))


def texts(count: int, *, seed: int = 0) -> list[Array]:
    """Return texts as ids, one row each, most short and a few long, their lengths in steps of eight."""
    chance = np.random.default_rng(seed)
    lengths = np.clip(np.ceil(chance.lognormal(2.6, 0.8, count) / 8).astype(int) * 8, 8, 128)
    return [chance.integers(1, WORDS, (1, length)) for length in lengths.tolist()]


def bucketed(engine: Engine, asked: list[Array], most: int) -> Array:
    """Answer texts in batches of equal length, each at its own place."""
    answers = np.empty(len(asked))
    places: dict[tuple[int, ...], list[int]] = defaultdict(list)
    for place, ids in enumerate(asked):
        places[bucket_of([list(ids.shape[1:])])].append(place)
    for own in places.values():
        for start in range(0, len(own), most):
            batch = own[start : start + most]
            answers[batch] = engine.run({"ids": np.concatenate([asked[place] for place in batch])})["value"][:, 0]
    return answers


def padded(engine: Engine, asked: list[Array], most: int) -> Array:
    """Answer texts in the order they came, each batch as long as its longest."""
    answers = np.empty(len(asked))
    for start in range(0, len(asked), most):
        own = asked[start : start + most]
        block = np.zeros((len(own), max(ids.shape[1] for ids in own)), dtype=np.int64)
        for row, ids in enumerate(own):
            block[row, : ids.shape[1]] = ids[0]
        answers[start : start + len(own)] = engine.run({"ids": block})["value"][:, 0]
    return answers


def alone(engine: Engine, asked: list[Array]) -> Array:
    return np.array([engine.run({"ids": ids})["value"][0, 0] for ids in asked])


def test_buckets_of_equal_length_answer_as_alone_and_padding_does_not() -> None:
    engine, asked = text_model(), texts(200)
    truth = alone(engine, asked)
    assert np.allclose(bucketed(engine, asked, 32), truth, atol=1e-5)
    assert np.abs(padded(engine, asked, 32) - truth).max() > 0.01
    engine.close()


def test_buckets_of_equal_length_take_less_time_than_padding() -> None:
    """The best of several turns each, taken in turn: on these lengths padding doubles the work and more."""
    engine, asked = text_model(), texts(256)
    assert sum(ids.shape[1] for ids in asked) < 0.5 * sum(
        len(asked[at : at + 32]) * max(ids.shape[1] for ids in asked[at : at + 32]) for at in range(0, len(asked), 32)
    )
    took: dict[str, list[float]] = {"bucketed": [], "padded": []}
    for _ in range(7):
        for name, run in (("bucketed", bucketed), ("padded", padded)):
            begun = time.perf_counter()
            run(engine, asked, 32)
            took[name].append(time.perf_counter() - begun)
    assert min(took["bucketed"]) < min(took["padded"])
    engine.close()
