"""The files of a bundle and what each holds."""

from __future__ import annotations

from typing import Annotated, Any

import msgspec

from modelyard.core.candidate import ParamValue
from modelyard.core.contract import Contract
from modelyard.core.metrics import Task

FORMAT = 1  # raised whenever a reader of the old format would misread the new one

MANIFEST = "manifest.json"
CONTRACT = "contract.json"
PREPROCESS = "preprocess.json"
GRAPH = "model.onnx"
WEIGHTS = "weights.bin"  # of a large graph, which refers to it: workers share the pages that it is mapped to
GOLDEN = "golden.json"
SPEC = "spec.yaml"  # as people wrote it
SPEC_IN_EFFECT = "spec.json"  # with every default, canonical
REQUIRED = (CONTRACT, PREPROCESS, GRAPH, GOLDEN, SPEC, SPEC_IN_EFFECT)

Digest = Annotated[str, msgspec.Meta(pattern="^[0-9a-f]{64}$")]


class FileEntry(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One file of the body."""

    size: Annotated[int, msgspec.Meta(ge=0)]
    sha256: Digest


class Manifest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The table of contents; its digest names the bundle. Nothing in it changes from run to run."""

    format: int
    name: str
    task: Task
    target: str
    classes: tuple[str, ...]
    threshold: float | None
    candidate: str
    algorithm: str
    params: dict[str, ParamValue]
    seed: int
    spec_digest: Digest
    data_digest: Digest
    code_version: str
    libraries: dict[str, str]
    unknown_category: str  # "accept" | "refuse"
    fallback: tuple[dict[str, Any], ...]  # the spec's, in order
    files: dict[str, FileEntry]


class Golden(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Requests with the answers that the bundle gave when it was packed.

    `probabilities` has a row a request; `values` is for regression. An answer within `tolerance` is
    the same answer.
    """

    rows: tuple[dict[str, Any], ...]
    labels: tuple[str, ...] = ()
    probabilities: tuple[tuple[float, ...], ...] = ()
    values: tuple[float, ...] = ()
    tolerance: float = 1e-5


class Body(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The parts of a bundle that a process without an engine needs."""

    manifest: Manifest
    contract: Contract
    golden: Golden
    digest: str
