"""A service speaks the Open Inference Protocol with a client that is not ours."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from tests.extras.environments import Environment
from tests.extras.released import Released, labels_of, shares_of


@pytest.fixture
def address(shop: Released) -> Iterator[str]:
    """Where a service of the release answers."""
    served = shop.place.call("serve", shop.ref, "--port", "0", "--detach", "--json")
    assert served.code == 0, served.err
    yield f"127.0.0.1:{served.json['run']['port']}"
    assert shop.place.call("stop", shop.name).code == 0


@pytest.mark.extras
def test_a_client_of_another_house_gets_the_same_answers(
    shop: Released, with_tritonclient: Environment, address: str, nowhere: Path, tmp_path: Path
) -> None:
    asked = shop.asked.drop_nulls()  # this client can only write a gap as NaN, which is no JSON
    rows = shop.write_json(tmp_path / "rows.json", asked)
    done = with_tritonclient.script("triton_answers.py", address, shop.name, str(rows), home=nowhere)
    assert done.code == 0, done.err
    told, here = done.json, shop.open().predict(asked)
    assert (told["live"], told["ready"], told["model_ready"], told["version_ready"]) == (True,) * 4
    assert told["stranger_ready"] is False
    assert told["server"]["name"] == "modelyard"
    assert told["metadata"]["versions"] == ["1"]
    assert {tensor["datatype"] for tensor in told["metadata"]["inputs"]} == {"INT64", "FP64", "BYTES"}
    assert told["id"] == "asked-1"
    assert told["shapes"] == {"label": [len(here)], "probabilities": [len(here), 2]}
    assert told["outputs"]["label"] == told["unasked"]["label"] == labels_of(here)
    np.testing.assert_allclose(told["outputs"]["probabilities"], shares_of(here), rtol=0, atol=1e-6)
    assert told["refused"] == "422"
