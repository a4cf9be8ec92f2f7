"""`modelyard bench`: an address, a release, the record, and the exit codes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from modelyard.core.codec import decode
from modelyard.core.load import LoadReport
from tests.journeys.making import Place, ours
from tests.journeys.own import until
from tests.journeys.shared import copy_of, shop
from tests.loadtest.server import Known

__all__ = ["shop"]

SHORT = ("--seconds", "1.5", "--warmup-s", "0.3")


@pytest.fixture
def body(tmp_path: Path) -> Path:
    path = tmp_path / "body.json"
    path.write_text('{"rows": []}')
    return path


def test_an_address_is_measured_judged_and_recorded(shop: Place, known: Known, body: Path, tmp_path: Path) -> None:
    out = tmp_path / "record.json"
    words = ("bench", known.url("fixed"), "--body", str(body), "--rate", "400", *SHORT)
    done = shop.quick(*words, "--p99-ms", "900", "--out", str(out))
    assert done.code == 0, done.out + done.err
    assert "open loop, 400 requests/s (poisson)" in done.out and "p99.9" in done.out
    assert "failed    none" in done.out and "server    1 processes" in done.out
    report = decode(out.read_bytes(), LoadReport)
    assert report.result is not None and report.result.verdict is not None and report.release is None
    assert known.told()["counts"]["requests"] == report.result.sent_in_all
    again = shop.quick(*words, "--out", str(out))
    assert again.code == 2 and "there already" in again.err
    missed = shop.quick(*words, "--p99-ms", "5", "--json")
    assert missed.code == 3
    assert missed.json["result"]["verdict"] == "fail"


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (("--rate", "10"), "Give a request's body"),
        (("--rate", "10", "--connections", "4"), "Give one of them"),
        (("--body", "none.json", "--rate", "10"), "cannot be read"),
        (("--body", "BODY"), "needs a bound"),
        (("--body", "BODY", "--connections", "4", "--p99-ms", "5"), "hides its stalls"),
        (("--body", "BODY", "--rate", "10", "--header", "nonsense"), "is no header"),
    ],
)
def test_words_that_do_not_go_together_are_said(
    shop: Place, known: Known, body: Path, words: tuple[str, ...], why: str
) -> None:
    done = shop.quick("bench", known.url("fixed"), *(str(body) if word == "BODY" else word for word in words))
    assert done.code == 2 and why in done.err
    assert known.told()["counts"].get("requests", 0) == 0


def test_a_closed_loop_gives_capacity_and_says_what_it_hides(shop: Place, known: Known, body: Path) -> None:
    done = shop.quick("bench", known.url("plain"), "--body", str(body), "--connections", "4", *SHORT)
    assert done.code == 0, done.err
    assert "closed loop, 4 connections" in done.out and "stops asking while the server stalls" in done.out


def test_a_release_is_served_for_the_measurement_and_nothing_stays(shop: Place, tmp_path: Path) -> None:
    own = copy_of(shop, tmp_path)
    before = own.quick("audit", "--last", "100", "--json").json
    done = own.call("bench", "shop", "--rate", "400", *SHORT, "--p99-ms", "2000", "--json")
    assert done.code == 0, done.out + done.err
    report = decode(json.dumps(done.json).encode(), LoadReport)
    result = report.result
    assert report.release == "shop@1" and report.bodies > 1 and result is not None
    assert result.answered == result.due and result.degraded == 0
    assert result.usage is not None and result.usage.processes >= 3 and result.cost_per_thousand is not None
    until(lambda: not ours(own.home), timeout_s=10)
    assert own.quick("audit", "--last", "100", "--json").json == before
    assert own.quick("services").out == "No service runs.\n"
    assert own.quick("bench", "nobody", "--rate", "5").code == 2
