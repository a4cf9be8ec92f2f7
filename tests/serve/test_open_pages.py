"""Which pages need a key where the service needs one and can be reached from beyond this machine."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest

from modelyard.serve.guard.keys import Keys, add_key
from modelyard.serve.messages import KEYS_FILE
from tests.serve.bodies import ROW
from tests.serve.grpc_front import grpc_front
from tests.serve.grpc_protos import of
from tests.serve.running import Running, service
from tests.serve.test_grpc import ask, fault

Bodies = dict[str, tuple[Path, str]]
MODEL = "/v2/models/income"
PROBES = ("/ping", "/v2/health/live", "/v2/health/ready", f"{MODEL}/ready", f"{MODEL}/versions/1/ready")
PAGES = ("/metrics", "/openapi.json", "/v2", MODEL, f"{MODEL}/versions/1", f"{MODEL}/stats", "/v2/models/stats",
         "/v2/trace/setting", f"{MODEL}/trace/setting")  # fmt: skip


@pytest.fixture(scope="module", params=["0.0.0.0", "127.0.0.1"])
def running(
    request: pytest.FixtureRequest, bodies: Bodies, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Running, str, bool]]:
    folder = tmp_path_factory.mktemp("pages") / "income"
    key = add_key(folder, "team", created="now", rate=0.001, burst=3)
    with service(folder, bodies, needs_key=True, host=request.param) as found:
        yield found, key, request.param == "0.0.0.0"


def test_probes_need_no_key(running: tuple[Running, str, bool]) -> None:
    found, _, _ = running
    assert {path: found.ask("GET", path).status for path in PROBES} == dict.fromkeys(PROBES, 200)


def test_what_tells_of_the_service_needs_a_key_beyond_this_machine_alone(running: tuple[Running, str, bool]) -> None:
    found, key, is_guarded = running
    assert {path: found.ask("GET", path).status for path in PAGES} == dict.fromkeys(PAGES, 401 if is_guarded else 200)
    assert found.ask("POST", "/v2/repository/index").status == (401 if is_guarded else 200)
    shown = {path: found.ask("GET", path, Authorization=f"Bearer {key}").status for path in PAGES}
    assert shown == dict.fromkeys(PAGES, 200)  # and none of it was taken off the key's rate
    assert found.predict(ROW).status == 401 and found.predict(ROW, X_API_Key=key).status == 200


def test_the_document_says_which_pages_need_a_key(running: tuple[Running, str, bool]) -> None:
    found, key, is_guarded = running
    paths = json.loads(found.ask("GET", "/openapi.json", X_API_Key=key).data)["paths"]
    said = {path: "security" in paths[path]["get"] and "401" in paths[path]["get"]["responses"] for path in PAGES}
    assert said == dict.fromkeys(PAGES, is_guarded)
    assert not any("security" in paths[path]["get"] for path in PROBES)
    assert all("security" in paths[path]["post"] for path in ("/predict", f"{MODEL}/infer"))


def test_grpc_asks_for_a_key_as_http_does(bodies: Bodies, tmp_path: Path) -> None:
    key = add_key(tmp_path, "team", created="now")
    keys = Keys(tmp_path / KEYS_FILE, guards_pages=True)
    with (
        grpc_front(tmp_path / "run", bodies["income@1"], keys=keys) as front,
        grpc.insecure_channel(front.address) as channel,
    ):
        named = of("Named")(name="income")
        for method in ("ModelMetadata", "ModelStatistics", "ModelConfig"):
            assert fault(channel, method, named).code() is grpc.StatusCode.UNAUTHENTICATED
        assert fault(channel, "ServerMetadata", of("Nothing")()).code() is grpc.StatusCode.UNAUTHENTICATED
        assert ask(channel, "ModelStatistics", named, "ModelStatistics", metadata=[("x-api-key", key)]).model_stats
        for probe in ("ServerLive", "ServerReady"):
            ask(channel, probe, of("Nothing")(), "Nothing")
        ask(channel, "ModelReady", named, "Nothing")
