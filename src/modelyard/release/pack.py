"""Packing: a fitted graph and its steps become the body of a bundle, a folder of data and nothing else."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from modelyard.bundle.check import check_rows
from modelyard.bundle.format import (
    CONTRACT,
    FORMAT,
    GOLDEN,
    GRAPH,
    MANIFEST,
    PREPROCESS,
    SPEC,
    SPEC_IN_EFFECT,
    WEIGHTS,
    FileEntry,
    Golden,
    Manifest,
)
from modelyard.bundle.open import Answers, Bundle, open_bundle
from modelyard.bundle.steps import Preprocess
from modelyard.core.arrays import Columns
from modelyard.core.candidate import ParamValue
from modelyard.core.codec import digest, digest_file, encode_pretty
from modelyard.core.contract import Column, Contract, Kind
from modelyard.core.ports import EngineLoader
from modelyard.errors import ContractBroken

GOLDEN_ROWS = 8
MOST_GOLDEN_BYTES = 4_000_000  # of their JSON; a row of a large tensor may be all there is room for
MLMODEL = "MLmodel"


@dataclass(frozen=True, kw_only=True)
class Parts:
    """What goes into a body."""

    name: str
    contract: Contract
    preprocess: Preprocess
    graph: bytes
    weights: bytes = b""  # that the graph refers to as `WEIGHTS`
    threshold: float | None
    candidate: str
    algorithm: str
    params: Mapping[str, ParamValue]
    seed: int
    spec_text: str
    spec_canonical: bytes
    spec_digest: str
    data_digest: str
    code_version: str
    libraries: Mapping[str, str]
    unknown_category: str
    fallback: Sequence[Mapping[str, Any]]
    golden: Columns  # rows to answer; the first `GOLDEN_ROWS` that keep the contract are used


def pack(parts: Parts, folder: Path, loader: EngineLoader) -> None:
    """Write a body into an empty folder; the same parts give the same bytes."""
    (folder / CONTRACT).write_bytes(encode_pretty(parts.contract))
    (folder / PREPROCESS).write_bytes(encode_pretty(parts.preprocess))
    (folder / GRAPH).write_bytes(parts.graph)
    if parts.weights:
        (folder / WEIGHTS).write_bytes(parts.weights)
    (folder / SPEC).write_text(parts.spec_text, encoding="utf-8")
    (folder / SPEC_IN_EFFECT).write_bytes(parts.spec_canonical)
    (folder / MLMODEL).write_text(_mlmodel(parts, folder), encoding="utf-8")
    rows = _golden_rows(parts)
    (folder / GOLDEN).write_bytes(encode_pretty(Golden(rows=tuple(rows))))
    _write_manifest(parts, folder)
    bundle = open_bundle(folder, loader)
    try:
        golden = _golden(rows, bundle)
    finally:
        bundle.close()
    (folder / GOLDEN).write_bytes(encode_pretty(golden))
    _write_manifest(parts, folder)


def _golden_rows(parts: Parts) -> list[dict[str, Any]]:
    """Return the first rows that a caller may send; raises ContractBroken when there is none."""
    found: list[dict[str, Any]] = []
    broken: ContractBroken | None = None
    for start in range(len(parts.golden)):
        rows = json_rows(parts.contract, parts.golden.take(slice(start, start + 1)))
        try:
            check_rows(parts.contract, rows, unknown_category=parts.unknown_category)
        except ContractBroken as fault:
            broken = fault
            continue
        found.extend(rows)
        if len(found) == GOLDEN_ROWS or (len(found) + 1) * len(msgspec.json.encode(rows)) > MOST_GOLDEN_BYTES:
            break
    if not found:
        raise broken or ContractBroken(["no row is there to answer"])
    return found


def json_rows(contract: Contract, columns: Columns) -> list[dict[str, Any]]:
    """Return the features of rows as a caller would send them in JSON."""
    named = {column.name: _values(column, columns) for column in contract.features}
    return [dict(zip(named, row, strict=True)) for row in zip(*named.values(), strict=True)]


def _values(column: Column, columns: Columns) -> list[Any]:
    values = columns[column.name]
    if column.kind is Kind.TENSOR:
        return list(values.tolist())
    if column.kind.is_time:
        unit = "D" if column.kind is Kind.DATE else "us"
        texts = np.datetime_as_string(values.astype(f"datetime64[{unit}]"))
        return [None if text == "NaT" else str(text) for text in texts]
    if column.kind.is_string:
        return list(values)
    cast = {Kind.INTEGER: int, Kind.BOOLEAN: bool}.get(column.kind, float)
    return [None if np.isnan(value) else cast(value) for value in values]


def _golden(rows: Sequence[dict[str, Any]], bundle: Bundle) -> Golden:
    answers: Answers = bundle.predict(rows)
    if answers.values is not None:
        return Golden(rows=tuple(rows), values=tuple(answers.values.tolist()))
    assert answers.labels is not None and answers.probabilities is not None
    return Golden(
        rows=tuple(rows),
        labels=tuple(answers.labels.tolist()),
        probabilities=tuple(tuple(row) for row in answers.probabilities.tolist()),
    )


def _write_manifest(parts: Parts, folder: Path) -> None:
    files = {
        path.name: FileEntry(size=path.stat().st_size, sha256=digest_file(path))
        for path in sorted(folder.iterdir())
        if path.name != MANIFEST
    }
    manifest = Manifest(
        format=FORMAT,
        name=parts.name,
        task=parts.contract.task,
        target=parts.contract.target,
        classes=parts.contract.classes,
        threshold=parts.threshold,
        candidate=parts.candidate,
        algorithm=parts.algorithm,
        params=dict(parts.params),
        seed=parts.seed,
        spec_digest=parts.spec_digest,
        data_digest=parts.data_digest,
        code_version=parts.code_version,
        libraries=dict(parts.libraries),
        unknown_category=parts.unknown_category,
        fallback=tuple(dict(entry) for entry in parts.fallback),
        files=files,
    )
    (folder / MANIFEST).write_bytes(encode_pretty(manifest))


def body_digest(folder: Path) -> str:
    """Return the name of a body: the digest of its manifest."""
    return digest((folder / MANIFEST).read_bytes())


def _mlmodel(parts: Parts, folder: Path) -> str:
    """Return the file by which MLflow finds its way into a body; JSON is YAML too.

    The identifier is made of the files that say what the model is, so that equal models have equal ones.
    """
    flavor = {"loader_module": "modelyard.adapters.mlflow", "env": {}}
    if "python" in parts.libraries:
        flavor["python_version"] = parts.libraries["python"]
    names = (CONTRACT, PREPROCESS, GRAPH, *((WEIGHTS,) if parts.weights else ()), SPEC_IN_EFFECT)
    said = "".join(digest_file(folder / name) for name in names)
    model = {"flavors": {"python_function": flavor}, "model_uuid": digest(said.encode())[:32]}
    return msgspec.json.encode(model).decode() + "\n"
