"""A service whose spec gives gRPC a port: both fronts answer for one release, and are counted and guarded together."""

from __future__ import annotations

import json
import ssl
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import polars as pl
import pytest

from tests.app.grpc_caller import NOBODY, SERVING, TIMEOUT_S, check, infer, is_server_ready
from tests.app.resealed import sealed
from tests.journeys.making import Place, ours
from tests.journeys.own import until
from tests.journeys.shared import copy_of
from tests.serve import certificates

ROWS = pl.DataFrame({"age": [70, 20, 44], "city": ["rome", "lima", "san josé"], "hours": [40.5, 38.0, 12.25]})


@pytest.fixture(scope="module")
def own(shop: Place, tmp_path_factory: pytest.TempPathFactory) -> Place:
    """A store of this file's own."""
    return copy_of(shop, tmp_path_factory.mktemp("grpc"))


@pytest.fixture(autouse=True)
def no_process_stays(own: Place) -> Iterator[None]:
    yield
    own.quick("stop", "shop")
    until(lambda: not ours(own.home), timeout_s=10)


def serve(place: Place, ref: str) -> tuple[str, str]:
    """Start a service; return the addresses of its fronts: HTTP, gRPC."""
    done = place.call("serve", ref, "--port", "0", "--detach", "--json")
    assert done.code == 0, done.err
    run = done.json["run"]
    return f"127.0.0.1:{run['port']}", f"127.0.0.1:{run['grpc_port']}"


def get(url: str, body: Any = None, *, key: str = "", trusting: ssl.SSLContext | None = None) -> str:
    headers = {"Content-Type": "application/json"} | ({"X-Api-Key": key} if key else {})
    request = urllib.request.Request(url, None if body is None else json.dumps(body).encode(), headers)
    with urllib.request.urlopen(request, timeout=TIMEOUT_S, context=trusting) as reply:
        text: str = reply.read().decode()
        return text


def counted(page: str, family: str, **labels: str) -> float:
    """Sum the series of a family that have these labels."""
    wanted = [f'{name}="{value}"' for name, value in labels.items()]
    lines = [line for line in page.splitlines() if line.startswith(f"{family}{{") and all(w in line for w in wanted)]
    return sum(float(line.rpartition(" ")[2]) for line in lines)


def as_released(place: Place, ref: str) -> tuple[list[str], Any]:
    """Return what the release answers in this process."""
    answers = place.app.open(ref).predict(ROWS)
    assert answers.labels is not None and answers.probabilities is not None
    return [str(one) for one in answers.labels], answers.probabilities


def check_counts(page: str, ref: str, *, asked_by_grpc: int, asked_by_http: int) -> None:
    """Hold the page of one front against what was asked of both."""
    assert counted(page, "modelyard_requests_total", release=ref, door="grpc", code="200") == asked_by_grpc
    assert counted(page, "modelyard_requests_total", release=ref, door="rows", code="200") == asked_by_http
    assert counted(page, "modelyard_rows_total", release=ref) == len(ROWS) * (asked_by_grpc + asked_by_http)
    assert counted(page, "modelyard_request_seconds_count", release=ref) == asked_by_grpc + asked_by_http


def test_both_fronts_answer_for_a_release_and_one_page_counts_them_together(own: Place, tmp_path: Path) -> None:
    ref = sealed(own, tmp_path / "body")
    http, at = serve(own, ref)
    with grpc.insecure_channel(at) as channel:
        assert (check(channel), check(channel, "shop"), is_server_ready(channel)) == (SERVING, SERVING, True)
        answers = [infer(channel, ROWS) for _ in range(3)]
    labels, shares = as_released(own, ref)
    for seen, probabilities in answers:
        assert seen == labels
        np.testing.assert_allclose(probabilities, shares, rtol=0, atol=1e-6)
    for _ in range(2):
        told = json.loads(get(f"http://{http}/predict", {"rows": ROWS.to_dicts()}))
        assert (told["served_by"], [one["label"] for one in told["predictions"]]) == (ref, labels)
    check_counts(get(f"http://{http}/metrics"), ref, asked_by_grpc=3, asked_by_http=2)


def test_keys_and_a_certificate_guard_both_fronts(own: Place, tmp_path: Path) -> None:
    cert, private = certificates.write(tmp_path / "tls")
    ref = sealed(own, tmp_path / "body", tls_cert=cert, tls_key=private, keys=True)
    key = own.quick("keys", "add", "shop", "--label", "team", "--json").json["key"]
    http, at = serve(own, ref)
    caller = [("authorization", f"Bearer {key}")]
    labels, _ = as_released(own, ref)
    trusted = grpc.ssl_channel_credentials(Path(cert).read_bytes())
    with grpc.secure_channel(at, trusted) as channel:
        assert (check(channel), check(channel, "shop"), is_server_ready(channel)) == (SERVING, SERVING, True)
        assert infer(channel, ROWS, caller)[0] == infer(channel, ROWS, [("x-api-key", key)])[0] == labels
        for stranger in (NOBODY, [("authorization", f"Bearer {key[:-1]}")]):
            with pytest.raises(grpc.RpcError) as refused:
                infer(channel, ROWS, stranger)
            assert refused.value.code() is grpc.StatusCode.UNAUTHENTICATED
    trusting = ssl.create_default_context(cafile=cert)
    url, body = f"https://{http}/predict", {"rows": ROWS.to_dicts()}
    assert json.loads(get(url, body, key=key, trusting=trusting))["served_by"] == ref
    with pytest.raises(urllib.error.HTTPError, match="401") as unknown:
        get(url, body, trusting=trusting)
    unknown.value.close()
    page = get(f"https://{http}/metrics", key=key, trusting=trusting)
    check_counts(page, ref, asked_by_grpc=2, asked_by_http=1)
    assert counted(page, "modelyard_requests_total", code="401") == 3
    with grpc.insecure_channel(at) as channel, pytest.raises(grpc.RpcError):  # in the clear there is nobody
        check(channel, patient=False)
