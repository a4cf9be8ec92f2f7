"""A service as `modelyard serve` starts it is asked over both of its fronts by clients that are not ours."""

from __future__ import annotations

import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from tests.app.grpc_caller import DATATYPES, free_port
from tests.app.resealed import sealed
from tests.extras.environments import Environment, fresh
from tests.extras.released import Released, labels_of, shares_of
from tests.journeys.making import SHOP, place_in, shop_rows
from tests.serve import certificates
from tests.serve.running import eventually

pytestmark = pytest.mark.extras
MANY = 50
NOT_FOUND = "StatusCode.NOT_FOUND"


@dataclass(frozen=True)
class Served:
    """A service that runs, and how its callers reach it; `cert` and `key` are empty where it is open."""

    released: Released
    ref: str
    rest: str
    grpc: str
    cert: str
    key: str

    @property
    def rows(self) -> pl.DataFrame:
        """Return what is asked: no gaps, which these clients can write as NaN alone, and that is no JSON."""
        return self.released.asked.drop_nulls()

    def write_rows(self, path: Path) -> str:
        path.write_text(json.dumps({"types": DATATYPES, "values": self.rows.to_dict(as_series=False)}))
        return str(path)


@contextmanager
def served(released: Released, ref: str, *, cert: str = "") -> Iterator[Served]:
    """Start a service by the command line, and end it likewise; with a certificate its callers need a key."""
    place, name = released.place, released.name
    key = place.quick("keys", "add", name, "--label", "team", "--json").json["key"] if cert else ""
    try:
        done = place.call("serve", ref, "--port", "0", "--detach", "--json")
        assert done.code == 0, done.err
        run = done.json["run"]
        scheme = "https" if cert else "http"
        yield Served(released, ref, f"{scheme}://127.0.0.1:{run['port']}", f"127.0.0.1:{run['grpc_port']}", cert, key)
    finally:
        place.quick("stop", name)
        place.quick("keys", "remove", name, "--label", "team")


@pytest.fixture(scope="module")
def release(tmp_path_factory: pytest.TempPathFactory) -> Released:
    """What a spec with a port for gRPC became; anyone on this machine may ask it."""
    spec = SHOP.replace("serving:\n", f"serving:\n  grpc_port: {free_port()}\n")
    place = place_in(tmp_path_factory.mktemp("open"), spec, shop_rows())
    done = place.call("run", timeout_s=600.0)
    assert done.code == 0, done.err
    return Released("shop", place)


@pytest.fixture(scope="module")
def closed_release(release: Released, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, str]:
    """The same release again, served over TLS to callers with a key; and its certificate."""
    root = tmp_path_factory.mktemp("closed")
    cert, key = certificates.write(root / "tls")
    return sealed(release.place, root / "body", tls_cert=cert, tls_key=key, keys=True), cert


@pytest.fixture
def open_shop(release: Released) -> Iterator[Served]:
    with served(release, release.ref) as one:
        yield one


@pytest.fixture
def closed_shop(release: Released, closed_release: tuple[str, str]) -> Iterator[Served]:
    ref, cert = closed_release
    with served(release, ref, cert=cert) as one:
        yield one


@pytest.fixture(params=["open_shop", "closed_shop"])
def either_shop(request: pytest.FixtureRequest) -> Served:
    one: Served = request.getfixturevalue(request.param)
    return one


@pytest.fixture(scope="module")
def with_kserve(tmp_path_factory: pytest.TempPathFactory) -> Environment:
    """KServe's clients of the Open Inference Protocol, for REST and gRPC."""
    environment = fresh(tmp_path_factory.mktemp("kserve") / "venv")
    environment.install("kserve==0.21.0", "numpy==2.4.6")
    return environment


@pytest.fixture(scope="module")
def with_health(tmp_path_factory: pytest.TempPathFactory) -> Environment:
    """The health client of gRPC's own house."""
    environment = fresh(tmp_path_factory.mktemp("health") / "venv")
    environment.install("grpcio-health-checking==1.85.1", "grpcio==1.85.1")
    return environment


def ask_as_kserve(one: Served, environment: Environment, home: Path, rows: Path) -> Any:
    words = [one.rest, one.grpc, one.ref, one.write_rows(rows), one.cert, one.key]
    done = environment.script("kserve_answers.py", *words, home=home)
    assert done.code == 0, done.err
    return done.json


def check_answers(one: Served, told: dict[str, Any], ways: tuple[str, ...]) -> None:
    """Hold what the client read against what the release answers in this process."""
    here = one.released.open().predict(one.rows)
    assert (told["live"], told["ready"], told["model_ready"]) == (True,) * 3
    assert told["many"] == MANY
    for way in ways:
        answer = told[way]
        assert (way, answer["id"], answer["model"]) == (way, "asked-1", one.released.name)
        assert (way, answer["label"]) == (way, labels_of(here))
        np.testing.assert_allclose(answer["probabilities"], shares_of(here), rtol=0, atol=1e-6, err_msg=way)


def test_kserve_gets_the_same_answers_over_both_transports(
    open_shop: Served, with_kserve: Environment, nowhere: Path, tmp_path: Path
) -> None:
    told = ask_as_kserve(open_shop, with_kserve, nowhere, tmp_path / "rows.json")
    check_answers(open_shop, told["rest"], ("json", "raw", "both ways raw", "outputs"))
    check_answers(open_shop, told["grpc"], ("typed", "raw", "version", "outputs"))
    assert told["rest"]["stranger_ready"] is False and told["grpc"]["stranger_ready"] == NOT_FOUND
    assert told["grpc"]["outputs"]["order"] == ["probabilities", "label"]  # as was asked
    assert told["rest"]["refused"] == {"stranger": "404", "missing": "422", "no key": "answered"}
    assert told["grpc"]["refused"] == {
        "stranger": NOT_FOUND, "missing": "StatusCode.INVALID_ARGUMENT", "no key": "answered"
    }  # fmt: skip


def test_kserve_with_a_key_gets_them_over_tls(
    closed_shop: Served, with_kserve: Environment, nowhere: Path, tmp_path: Path
) -> None:
    told = ask_as_kserve(closed_shop, with_kserve, nowhere, tmp_path / "rows.json")
    check_answers(closed_shop, told["rest"], ("json", "raw", "both ways raw", "outputs"))
    check_answers(closed_shop, told["grpc"], ("typed", "raw", "version", "outputs"))
    assert told["rest"]["refused"]["no key"] == "401"
    assert told["grpc"]["refused"]["no key"] == "StatusCode.UNAUTHENTICATED"


def test_tritonclient_gets_the_same_answers_from_both_fronts_and_both_count_them(
    either_shop: Served, with_tritonclient: Environment, nowhere: Path, tmp_path: Path
) -> None:
    one = either_shop
    words = [one.rest.partition("://")[2], one.grpc, one.released.name, one.write_rows(tmp_path / "rows.json")]
    done = with_tritonclient.script("triton_both.py", *words, one.cert, one.key, home=nowhere)
    assert done.code == 0, done.err
    told, here = done.json, one.released.open().predict(one.rows)
    for way in ("rest", "grpc"):
        assert (way, told[way]["ready"], told[way]["label"]) == (way, True, labels_of(here))
        np.testing.assert_allclose(told[way]["probabilities"], shares_of(here), rtol=0, atol=1e-6, err_msg=way)
    assert (told["rest"]["count"], told["grpc"]["count"]) == (len(here), 2 * len(here))  # what all fronts answered


def test_a_probe_and_a_watch_see_a_service_until_it_drains(
    either_shop: Served, with_health: Environment, nowhere: Path, tmp_path: Path
) -> None:
    released, mark = either_shop.released, tmp_path / "watching"
    words = [either_shop.grpc, released.name, str(mark), either_shop.cert]  # a probe has no key
    with ThreadPoolExecutor(1) as aside:
        probing = aside.submit(with_health.script, "health_answers.py", *words, home=nowhere)
        eventually(lambda: mark.exists() or probing.done(), timeout_s=60.0)
        assert released.place.quick("stop", released.name).code == 0
        done = probing.result()
    assert done.code == 0, done.err
    told = done.json
    assert (told["server"], told["model"], told["protocol"]) == ("SERVING",) * 3
    assert (told["stranger"], told["stranger watched"]) == (NOT_FOUND, "SERVICE_UNKNOWN")
    assert told["listed"] == {"": "SERVING", released.name: "SERVING"}
    assert (told["watched"], told["ended"]) == (["SERVING", "NOT_SERVING"], "StatusCode.UNAVAILABLE")
