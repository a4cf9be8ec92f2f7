"""The gate: the first contender whose packed body answers as its pipeline does is measured on the test rows."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from msgspec.structs import replace

from modelyard.bundle.open import Answers, open_bundle
from modelyard.core.arrays import Bools, Columns, Floats
from modelyard.core.candidate import Scored
from modelyard.core.codec import decode, encode_pretty
from modelyard.core.contract import Part
from modelyard.core.evidence import Evaluation, Parity
from modelyard.errors import BundleError, CandidateFailed, ParityBroken, ServiceError
from modelyard.evaluate.evaluation import evaluate
from modelyard.evaluate.parity import parity, servable
from modelyard.flow.contenders import Packed, answer, timed
from modelyard.flow.making import Making
from modelyard.release.pack import body_digest
from modelyard.train.features import featurize
from modelyard.train.head import apply_head
from modelyard.train.search import refit

THREADS = 2  # for the many looks of the importance; what is timed runs on one


@dataclass(frozen=True, kw_only=True)
class Gated:
    """A contender that answers alike everywhere, with its evaluation on the test rows."""

    packed: Packed
    evaluation: Evaluation
    parity: tuple[Parity, ...]
    table: tuple[Scored, ...]
    test_rows_seen_by: tuple[str, ...]


def first_to_hold(making: Making, table: Sequence[Scored], packed: dict[str, Packed]) -> Gated:
    """Return the best contender with parity, evaluated; raises ParityBroken when none has it."""
    test = making.rows(Part.TEST)
    rows = list(table)
    seen: list[str] = []
    refused: list[str] = []
    for place, row in enumerate(table):
        one = packed[row.candidate]
        seen.append(f"parity of `{row.candidate}`: answers compared, labels not looked at")
        found, reason = _parity(making, one, test)
        if reason:
            refused.append(f"{row.candidate}: {reason}")
            rows[place] = replace(row, chosen=False, reason=f"refused: {reason}")
            continue
        seen.append(f"evaluation of `{row.candidate}`, body {body_digest(one.body)[:12]}")
        if refused:
            rows[place] = replace(row, chosen=True, gap=None, reason="best of those whose bundle answers as they do")
        return Gated(
            packed=one,
            evaluation=_evaluation(making, one, test),
            parity=found,
            table=tuple(rows),
            test_rows_seen_by=tuple(seen),
        )
    name = making.loaded.spec.name
    raise ParityBroken(f"`{name}`: no candidate's bundle answers as its pipeline does: " + "; ".join(refused))


def _parity(making: Making, one: Packed, test: Columns) -> tuple[tuple[Parity, ...], str]:
    """Compare pipeline, bundle and endpoint on the test rows; the second part says what broke."""
    key = making.log.key("parity", {"body": body_digest(one.body)})

    def fill(folder: Path) -> None:
        try:
            outcome = _compare(making, one, test, _reference(making, one, test))
        except CandidateFailed as fault:
            outcome = ([], str(fault))
        (folder / "parity.json").write_bytes(encode_pretty(outcome))

    folder = making.log.keep("parity", key, fill)
    return decode((folder / "parity.json").read_bytes(), tuple[tuple[Parity, ...], str])


def _compare(making: Making, one: Packed, test: Columns, reference: Floats) -> tuple[list[Parity], str]:
    """Return what was compared, up to the first that differs, and how it does."""
    ports = making.ports
    unknown = making.loaded.spec.serving.unknown_category.value
    asked = servable(making.contract, test, unknown_category=unknown)
    left_out = int((~asked).sum())
    endpoint = "pipeline and served endpoint" + (
        f" ({left_out} rows that the contract refuses left out)" if left_out else ""
    )
    all_rows = np.ones(len(test), dtype=np.bool_)
    ways: tuple[tuple[str, Bools, Callable[[Columns], Answers]], ...] = (
        ("pipeline and bundle", all_rows, lambda rows: answer(one.body, rows, ports)),
        (endpoint, asked, lambda rows: ports.endpoint(one.body, rows)),
    )
    found: list[Parity] = []
    for between, which, ask in ways:
        rows = test.take(which)
        try:
            answers = ask(rows)
        except (BundleError, ServiceError) as fault:
            return found, f"{between}: {fault}"
        deviation = making.features.scale.deviation
        found.append(
            parity(
                between, making.contract, rows, reference[which], answers, threshold=one.threshold, deviation=deviation
            )
        )
        if not found[-1].passed:
            return found, _told(found[-1])
    return found, ""


def _told(found: Parity) -> str:
    text = f"{found.between} differ by up to {found.largest_difference:.3g}, allowed is {found.tolerance:.3g}"
    if found.labels_changed:
        text += f", and {found.labels_changed} labels change"
    if found.worst:
        text += f"; worst is test row {found.worst[0].row}: {found.worst[0].columns}"
    return text


def _reference(making: Making, one: Packed, test: Columns) -> Floats:
    """Fit the trial again and return what the pipeline says of the test rows, in float64."""
    features, ports = making.features, making.ports
    graph = ports.graphs.featurizer(features.encodings[one.plan.encoding], features.widths)
    with tempfile.TemporaryDirectory(prefix="modelyard-") as folder:
        matrix = Path(folder) / "features-test.npy"
        np.save(matrix, featurize(graph, features.steps.apply(test), ports.loader))
        raw = refit(making.task, ports.spawn, one.tried, {"test": matrix}, Path(folder))["test"]
    return apply_head(one.head, raw)


def _evaluation(making: Making, one: Packed, test: Columns) -> Evaluation:
    question = making.question
    timings = timed(making, one.body, name="final timing", single_s=2.0, batch_s=1.0)
    key = making.log.key("evaluation", {
        "body": body_digest(one.body), "requirements": question.requirements, "objective": question.objective,
        "price": question.price_per_cpu_hour, "seed": question.seed,
    })  # fmt: skip

    def fill(folder: Path) -> None:
        bundle = open_bundle(one.body, making.ports.loader, threads=THREADS)
        try:
            answers = bundle.answer(test)
            found = evaluate(question, bundle, test=test, answers=answers, valid=making.valid, timings=timings)
        finally:
            bundle.close()
        (folder / "evaluation.json").write_bytes(encode_pretty(found))

    return decode((making.log.keep("evaluation", key, fill) / "evaluation.json").read_bytes(), Evaluation)
