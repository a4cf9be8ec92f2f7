"""The gate: the first contender whose packed body answers as its pipeline does is measured on the test rows."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from msgspec.structs import replace

from modelyard.bundle.open import Answers, open_bundle
from modelyard.core.arrays import Columns, Floats
from modelyard.core.candidate import Scored
from modelyard.core.codec import decode, encode_pretty
from modelyard.core.contract import Part
from modelyard.core.evidence import Evaluation, Parity
from modelyard.errors import BundleError, CandidateFailed, ParityBroken, ServiceError
from modelyard.evaluate.evaluation import Question, evaluate
from modelyard.evaluate.parity import parity
from modelyard.flow.contenders import Packed, answer, timed
from modelyard.flow.ports import Ports
from modelyard.flow.stage import StageLog
from modelyard.release.pack import body_digest
from modelyard.spec.load import LoadedSpec
from modelyard.train.features import featurize
from modelyard.train.head import apply_head
from modelyard.train.search import Search, SearchPorts, refit


@dataclass(frozen=True, kw_only=True)
class Gated:
    """A contender that answers alike everywhere, with its evaluation on the test rows."""

    packed: Packed
    evaluation: Evaluation
    parity: tuple[Parity, ...]
    table: tuple[Scored, ...]
    test_rows_seen_by: tuple[str, ...]


def first_to_hold(
    loaded: LoadedSpec, question: Question, table: Sequence[Scored], packed: dict[str, Packed], task: Search, parts: Path,
    valid: Columns, ports: Ports, log: StageLog,
) -> Gated:  # fmt: skip
    """Return the best contender with parity, evaluated; raises ParityBroken when none has it."""
    test = ports.tables.read(parts / f"{Part.TEST}.parquet")
    rows = list(table)
    seen: list[str] = []
    refused: list[str] = []
    for place, row in enumerate(table):
        one = packed[row.candidate]
        seen.append(f"parity of `{row.candidate}`: answers compared, labels not looked at")
        found, reason = _parity(question, one, task, test, ports, log)
        if reason:
            refused.append(f"{row.candidate}: {reason}")
            rows[place] = replace(row, chosen=False, reason=f"refused: {reason}")
            continue
        seen.append(f"evaluation of `{row.candidate}`, body {body_digest(one.body)[:12]}")
        evaluation = _evaluation(question, one, test, valid, ports, log)
        if refused:
            rows[place] = replace(row, chosen=True, gap=None, reason="best of those whose bundle answers as they do")
        return Gated(packed=one, evaluation=evaluation, parity=found, table=tuple(rows), test_rows_seen_by=tuple(seen))
    raise ParityBroken(
        f"`{loaded.spec.name}`: no candidate's bundle answers as its pipeline does: " + "; ".join(refused)
    )


def _parity(
    question: Question, one: Packed, task: Search, test: Columns, ports: Ports, log: StageLog
) -> tuple[tuple[Parity, ...], str]:
    """Compare pipeline, bundle and endpoint on the test rows; the second part says what broke."""
    key = log.key("parity", {"body": body_digest(one.body)})

    def fill(folder: Path) -> None:
        try:
            reference = _reference(one, task, test, ports)
        except CandidateFailed as fault:
            (folder / "parity.json").write_bytes(encode_pretty(((), str(fault))))
            return
        found: list[Parity] = []
        reason = ""
        ways = {"pipeline and bundle": lambda: answer(one.body, test, ports),
                "pipeline and served endpoint": lambda: ports.endpoint(one.body, test)}  # fmt: skip
        for between, ask in ways.items():
            try:
                answers: Answers = ask()
            except (BundleError, ServiceError) as fault:
                reason = f"{between}: {fault}"
                break
            found.append(
                parity(between, question.contract, test, reference, answers,
                       threshold=one.threshold, deviation=task.features.scale.deviation)
            )  # fmt: skip
            if not found[-1].passed:
                reason = _told(found[-1])
                break
        (folder / "parity.json").write_bytes(encode_pretty((found, reason)))

    folder = log.keep("parity", key, fill)
    return decode((folder / "parity.json").read_bytes(), tuple[tuple[Parity, ...], str])


def _told(found: Parity) -> str:
    text = f"{found.between} differ by up to {found.largest_difference:.3g}, allowed is {found.tolerance:.3g}"
    if found.labels_changed:
        text += f", and {found.labels_changed} labels change"
    if found.worst:
        text += f"; worst is test row {found.worst[0].row}: {found.worst[0].columns}"
    return text


def _reference(one: Packed, task: Search, test: Columns, ports: Ports) -> Floats:
    """Fit the trial again and return what the pipeline says of the test rows, in float64."""
    features = task.features
    encoding = features.encodings[one.plan.encoding]
    with tempfile.TemporaryDirectory(prefix="modelyard-") as folder:
        matrix = Path(folder) / "features-test.npy"
        graph = ports.graphs.featurizer(encoding, features.widths)
        np.save(matrix, featurize(graph, features.steps.apply(test), ports.loader))
        search_ports = SearchPorts(
            stages=ports.stages, spawn=ports.spawn, sampler=ports.sampler, progress=ports.progress,
            monotonic=ports.monotonic,
        )  # fmt: skip
        raw = refit(task, search_ports, one.tried, {"test": matrix}, Path(folder))["test"]
    return apply_head(one.head, raw)


def _evaluation(
    question: Question, one: Packed, test: Columns, valid: Columns, ports: Ports, log: StageLog
) -> Evaluation:
    timings = timed(one.body, question.contract, valid, ports, log, name="final timing", single_s=2.0, batch_s=1.0)
    key = log.key("evaluation", {
        "body": body_digest(one.body), "requirements": question.requirements, "objective": question.objective,
        "price": question.price_per_cpu_hour, "seed": question.seed,
    })  # fmt: skip

    def fill(folder: Path) -> None:
        bundle = open_bundle(one.body, ports.loader, threads=2)
        try:
            found = evaluate(question, bundle, test=test, answers=bundle.answer(test), valid=valid, timings=timings)
        finally:
            bundle.close()
        (folder / "evaluation.json").write_bytes(encode_pretty(found))

    return decode((log.keep("evaluation", key, fill) / "evaluation.json").read_bytes(), Evaluation)
