"""Opening a bundle: verify every byte, then run rows through it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import msgspec
import numpy as np

from modelyard.bundle.check import check_rows, check_values
from modelyard.bundle.format import (
    CONTRACT,
    FORMAT,
    GOLDEN,
    GRAPH,
    MANIFEST,
    PREPROCESS,
    REQUIRED,
    Body,
    Golden,
    Manifest,
)
from modelyard.bundle.steps import VERSION, Preprocess
from modelyard.core.arrays import Array, Columns
from modelyard.core.codec import decode, digest_file
from modelyard.core.contract import Contract
from modelyard.core.metrics import Task
from modelyard.core.ports import Engine, EngineLoader
from modelyard.errors import BundleAltered, BundleFormat

T = TypeVar("T")


@dataclass(frozen=True)
class Answers:
    """What a bundle says of rows, in their order.

    Classification: `labels` (rows,) of str and `probabilities` (rows, classes) float32 in the
    manifest's class order. Regression: `values` (rows,) float64.
    """

    labels: Array | None = None
    probabilities: Array | None = None
    values: Array | None = None

    def __len__(self) -> int:
        return len(self.values) if self.values is not None else len(self.labels if self.labels is not None else ())


class Bundle:
    """An open bundle. Safe to use from one thread at a time."""

    def __init__(self, body: Body, preprocess: Preprocess, engine: Engine) -> None:
        self.body, self.preprocess, self.engine = body, preprocess, engine

    @property
    def manifest(self) -> Manifest:
        return self.body.manifest

    def predict(self, rows: Sequence[Mapping[str, Any]]) -> Answers:
        """Answer JSON rows; raises ContractBroken."""
        return self.answer(check_rows(self.body.contract, rows, unknown_category=self.manifest.unknown_category))

    def predict_values(self, named: Mapping[str, Sequence[Any]]) -> Answers:
        """Answer values by column name; raises ContractBroken."""
        return self.answer(check_values(self.body.contract, named, unknown_category=self.manifest.unknown_category))

    def answer(self, columns: Columns) -> Answers:
        """Answer checked columns."""
        outputs = self.engine.run(self.preprocess.apply(columns))
        if self.manifest.task is Task.REGRESSION:
            return Answers(values=outputs["value"].reshape(-1))
        return Answers(labels=outputs["label"].reshape(-1), probabilities=outputs["probabilities"])

    def close(self) -> None:
        """Free the engine; twice is harmless."""
        self.engine.close()


def open_bundle(folder: Path, loader: EngineLoader, *, threads: int = 1, verified: bool = False) -> Bundle:
    """Open the bundle in a folder.

    `verified` says that the caller has just verified the bytes. Raises BundleAltered, BundleFormat.
    """
    if not verified:
        verify(folder)
    body = read_body(folder)
    version = _read(folder, PREPROCESS, _Steps).version  # first: a newer version may have steps unknown here
    if not 1 <= version <= VERSION:
        raise BundleFormat(f"`{folder / PREPROCESS}` has version {version}; this code reads 1 to {VERSION}.")
    preprocess = _read(folder, PREPROCESS, Preprocess)
    return Bundle(body, preprocess, loader.load(folder / GRAPH, threads=threads))


def read_body(folder: Path) -> Body:
    """Read what a process without an engine needs; the bytes are not verified."""
    return Body(
        manifest=read_manifest(folder),
        contract=_read(folder, CONTRACT, Contract),
        golden=_read(folder, GOLDEN, Golden),
        digest=digest_file(folder / MANIFEST),
    )


def read_manifest(folder: Path) -> Manifest:
    """Read the manifest; raises BundleFormat for a version or a shape this code cannot read."""
    try:
        data = (folder / MANIFEST).read_bytes()
        version = decode(data, _Version).format
    except (OSError, msgspec.MsgspecError) as fault:
        raise BundleFormat(f"`{folder}` is not a bundle: `{MANIFEST}` cannot be read ({fault}).") from fault
    if not 1 <= version <= FORMAT:
        raise BundleFormat(f"`{folder}` has format {version}; this code reads 1 to {FORMAT}. Update Modelyard.")
    return _read(folder, MANIFEST, Manifest)


def verify(folder: Path, *, wanted: str | None = None) -> None:
    """Hold every byte of a bundle against its manifest, and the manifest against the digest `wanted`.

    Raises: BundleAltered naming the file, the digest seen and the digest wanted; BundleFormat.
    """
    if wanted is not None:
        _hold(folder / MANIFEST, wanted)
    manifest = read_manifest(folder)
    for name in REQUIRED:
        if name not in manifest.files:
            raise BundleFormat(f"`{folder}` has no `{name}`, which every bundle has.")
    # A link to a folder counts as a file: it is none of the bundle's.
    found = (path for path in folder.rglob("*") if path.is_symlink() or not path.is_dir())
    present = {path.relative_to(folder).as_posix() for path in found} - {MANIFEST}
    for name in sorted(present ^ manifest.files.keys()):
        kind = "is missing" if name in manifest.files else "was added after packing"
        raise BundleAltered(f"`{folder / name}` {kind}. Restore the bundle from where it was sealed.")
    for name, entry in sorted(manifest.files.items()):
        _hold(folder / name, entry.sha256)


def _hold(path: Path, wanted: str) -> None:
    """Raise BundleAltered unless this is a file of its own with the digest wanted."""
    if not path.exists() and not path.is_symlink():
        raise BundleFormat(f"`{path.parent}` is not a bundle: there is no `{path.name}`.")
    if path.is_symlink() or not path.is_file():
        raise BundleAltered(f"`{path}` was altered: it is no file of its own, sealed was one with digest {wanted}.")
    if (seen := digest_file(path)) != wanted:
        raise BundleAltered(f"`{path}` was altered: its digest is {seen}, sealed was {wanted}.")


def matches_golden(answers: Answers, golden: Golden) -> bool:
    """Say whether the answers to the golden rows are those that were sealed."""
    if answers.values is not None:
        wanted = np.asarray(golden.values)
        return answers.values.shape == wanted.shape and bool(
            np.all(np.abs(answers.values - wanted) <= golden.tolerance * np.maximum(1.0, np.abs(wanted)))
        )
    if answers.labels is None or answers.probabilities is None:
        return False
    if answers.probabilities.shape[0] != len(golden.probabilities) or len(golden.labels) != len(golden.probabilities):
        return False
    if any(len(row) != answers.probabilities.shape[1] for row in golden.probabilities):
        return False
    wanted = np.asarray(golden.probabilities).reshape(answers.probabilities.shape)
    close = np.all(np.abs(answers.probabilities - wanted) <= golden.tolerance)
    return bool(close) and list(answers.labels) == list(golden.labels)


class _Version(msgspec.Struct):
    format: int


class _Steps(msgspec.Struct):
    version: int


def _read(folder: Path, name: str, kind: type[T]) -> T:
    try:
        return decode((folder / name).read_bytes(), kind)
    except (OSError, msgspec.MsgspecError) as fault:
        raise BundleFormat(f"`{folder / name}` cannot be read: {fault}.") from fault
