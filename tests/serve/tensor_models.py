"""Models without graphs: contracts of any columns, for tests of the doors alone."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any

from modelyard.bundle.format import Body, Golden, Manifest
from modelyard.core.contract import Column, Contract, Kind, Role
from modelyard.core.metrics import Task
from modelyard.serve.messages import Limits
from modelyard.serve.model import Model
from modelyard.serve.request import Request

CLASSES = ("no", "yes")
NOTHING = hashlib.sha256(b"").hexdigest()


def tensor_column(name: str, datatype: str, *shape: int, nullable: bool = False) -> Column:
    return Column(
        name=name, kind=Kind.TENSOR, role=Role.FEATURE, nullable=nullable, datatype=datatype, shape=tuple(shape)
    )


def plain_column(name: str, kind: Kind, *, nullable: bool = True, **more: Any) -> Column:
    return Column(name=name, kind=kind, role=Role.FEATURE, nullable=nullable, **more)


# A column of each kind that is no tensor, in an order that mixes them.
PLAIN = (
    plain_column("note", Kind.TEXT),
    plain_column("count", Kind.INTEGER),
    plain_column("day", Kind.DATE),
    plain_column("score", Kind.NUMBER),
    plain_column("city", Kind.CATEGORY, categories=("Oslo", "Paris"), distinct=2),
    plain_column("open", Kind.BOOLEAN),
    plain_column("seen", Kind.DATETIME),
    plain_column("age", Kind.INTEGER, nullable=False),
)


def contract_of(
    columns: Sequence[Column], *, task: Task = Task.BINARY, missing_texts: tuple[str, ...] = ()
) -> Contract:
    target = Column(name="target", kind=Kind.CATEGORY, role=Role.TARGET, nullable=False)
    classes = () if task is Task.REGRESSION else CLASSES
    return Contract(
        task=task, target="target", columns=(*columns, target), classes=classes, missing_texts=missing_texts
    )


def model_of(
    columns: Sequence[Column],
    *,
    task: Task = Task.BINARY,
    limits: Limits | None = None,
    unknown_category: str = "accept",
    missing_texts: tuple[str, ...] = (),
) -> Model:
    classes = () if task is Task.REGRESSION else CLASSES
    manifest = Manifest(
        format=1,
        name="shapes",
        task=task,
        target="target",
        classes=classes,
        threshold=None,
        candidate="by hand",
        algorithm="by hand",
        params={},
        seed=0,
        spec_digest=NOTHING,
        data_digest=NOTHING,
        code_version="0",
        libraries={},
        unknown_category=unknown_category,
        fallback=({"kind": "refuse"},),
        files={},
    )
    body = Body(
        manifest=manifest,
        contract=contract_of(columns, task=task, missing_texts=missing_texts),
        golden=Golden(rows=()),
        digest=NOTHING,
    )
    return Model("shapes@3", body, limits or Limits())


def asking(body: bytes, *, path: bytes = b"/", **headers: bytes) -> Request:
    """Return a request with this body; header names are written with `_` for `-`."""
    named = {name.replace("_", "-").encode(): value for name, value in headers.items()}
    return Request(method=b"POST", path=path, headers=named, body=body, id="r1", arrived=0.0)
