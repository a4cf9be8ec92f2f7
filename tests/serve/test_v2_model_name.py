"""A request that names its model in the body too, as KServe's client writes it, is read on both roads."""

from __future__ import annotations

import json
from typing import Any

import pytest

from modelyard.core.contract import Kind
from modelyard.serve.doors import Malformed
from modelyard.serve.v2.door import V2Door
from tests.serve.tensor_models import asking, model_of, plain_column, tensor_column

MODELS = {
    "tensor": (model_of([tensor_column("x", "FP32", 2)]), {"datatype": "FP32", "shape": [1, 2], "data": [1.5, -2.0]}),
    "column": (
        model_of([plain_column("x", Kind.NUMBER, nullable=False)]), {"datatype": "FP64", "shape": [1, 1], "data": [1.5]}
    ),
}  # fmt: skip


def read(kind: str, *, closely: bool, **more: Any) -> Any:
    model, given = MODELS[kind]
    body = json.dumps({"id": "a", **more, "inputs": [{"name": "x", **given}]}).encode()
    headers = {"inference_header_content_length": b"%d" % len(body)} if closely else {}
    return V2Door().read(asking(body, **headers), model)


@pytest.mark.parametrize("closely", [False, True])
@pytest.mark.parametrize("kind", sorted(MODELS))
def test_the_name_changes_nothing_where_it_is_the_paths(kind: str, closely: bool) -> None:
    plain = read(kind, closely=closely)
    for name in ("shapes", "", None):
        named = read(kind, closely=closely, model_name=name)
        assert (named.packed, named.rows, named.id, named.wishes) == (plain.packed, 1, "a", None)


@pytest.mark.parametrize("closely", [False, True])
@pytest.mark.parametrize("kind", sorted(MODELS))
def test_another_name_is_refused_in_words(kind: str, closely: bool) -> None:
    with pytest.raises(Malformed, match="`model_name` is `other`, but the path names `shapes`"):
        read(kind, closely=closely, model_name="other")
    with pytest.raises(Malformed, match="model_name"):
        read(kind, closely=closely, model_name=7)
