"""The management address: who may use it, and that load and unload are deploy and rollback."""

from __future__ import annotations

import http.client
import json
import ssl
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from modelyard.serve.guard.keys import add_key
from tests.serve import certificates
from tests.serve.bodies import ROW
from tests.serve.running import Running, eventually, service


class Manager:
    """A caller of the management address."""

    def __init__(self, running: Running) -> None:
        self.running = running
        self.key = add_key(running.folder, "night", created="now", manage=True)
        port = running.status().run.management_port
        assert port is not None and port != running.port
        self.port = port
        eventually(lambda: self.ask("GET", "/status")[0] == 200, timeout_s=3.0)

    def ask(self, method: str, path: str, body: Any = None, *, key: str | None = None) -> tuple[int, Any]:
        client = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        data = body if isinstance(body, bytes) or body is None else json.dumps(body).encode()
        try:
            client.request(method, path, data, {"Authorization": f"Bearer {self.key if key is None else key}"})
            reply = client.getresponse()
            return reply.status, json.loads(reply.read())
        finally:
            client.close()

    def change(self, verb: str, **parameters: str) -> tuple[int, Any]:
        body = {"parameters": parameters} if parameters else None
        return self.ask("POST", f"/v2/repository/models/income/{verb}", body)


@pytest.fixture
def manager(bodies: dict[str, tuple[Path, str]], tmp_path: Path) -> Iterator[Manager]:
    with service(tmp_path / "income", bodies, management_port=0) as running:
        yield Manager(running)


def test_only_a_key_that_may_manage_gets_in(manager: Manager) -> None:
    folder = manager.running.folder
    asks = add_key(folder, "asks", created="now")
    eventually(lambda: manager.ask("GET", "/status", key=asks)[0] == 403, timeout_s=3.0)
    status, said = manager.ask("POST", "/stop", key="wrong")
    assert status == 401 and "Bearer" in said["error"]
    assert manager.ask("POST", "/stop", key=asks)[0] == 403
    assert manager.running.predict(ROW).status == 200
    told = eventually(lambda: manager.running.events("management_refused"))
    assert len(told) == 1  # however often
    limited = add_key(folder, "limited", created="now", manage=True, rate=0.01)
    eventually(lambda: manager.ask("GET", "/status", key=limited)[0] in (200, 429), timeout_s=3.0)
    assert manager.ask("GET", "/status", key=limited)[0] == 429


def test_load_is_deploy_and_unload_is_rollback(manager: Manager) -> None:
    running = manager.running
    status, done = manager.change("load", version="2")
    assert (status, done["release"], done["previous"]) == (200, "income@2", "income@1")
    assert running.predict(ROW).json["served_by"] == "income@2"
    status, done = manager.change("unload", version="2")
    assert (status, done["release"]) == (200, "income@1")
    assert running.predict(ROW).json["served_by"] == "income@1"
    assert manager.change("unload", version="2") == (200, {})  # it was only kept warm by now
    assert [one["operation"] for one in running.events("audit")] == ["deploy", "rollback", "unload"]
    assert [one["by"] for one in running.events("managed")] == ["night"] * 3
    status, done = manager.change("load")
    assert (status, done["release"]) == (200, "income@3")  # the newest
    assert manager.change("unload")[1]["release"] == "income@1"


def test_what_cannot_be_done_is_said_in_the_protocols_form(manager: Manager) -> None:
    for method, path, body, wanted in (
        ("POST", "/v2/repository/models/income/load", {"parameters": {"version": "77"}}, 404),
        ("POST", "/v2/repository/models/other/load", None, 404),
        ("POST", "/v2/repository/models/income/rename", None, 404),
        ("POST", "/v2/repository/models/income/load", b"{", 400),
        ("POST", "/v2/repository/models/income/load", {"parameters": {"version": "x"}}, 400),
        ("GET", "/v2/repository/models/income/load", None, 405),
        ("POST", "/status", None, 405),
        ("POST", "/v2/repository/models/income/unload", None, 400),  # nothing answered before
        ("GET", "/predict", None, 404),
    ):
        status, said = manager.ask(method, path, body)
        assert (status, path) == (wanted, path) and isinstance(said["error"], str)
    assert manager.running.predict(ROW).json["served_by"] == "income@1"


def test_outcomes_are_taken_one_by_one(manager: Manager) -> None:
    good, odd = {"request": "a", "label": "yes"}, {"request": 7, "label": [1]}
    status, counts = manager.ask("POST", "/feedback", {"outcomes": [good, odd, {**good, "row": -1}, "x"]})
    assert (status, counts["joined"], counts["malformed"]) == (200, 1, 3)
    assert "outcome 1" in counts["first_fault"]
    assert manager.ask("POST", "/feedback", {"outcomes": [good] * 10_000})[1]["joined"] == 10_000
    for body in ({"outcomes": [good] * 10_001}, {"outcomes": good}, {}, [good], b"{", b"[" * 100_000):
        status, said = manager.ask("POST", "/feedback", body)
        assert status == 400 and "outcomes" in said["error"]
    assert manager.ask("GET", "/feedback")[0] == 405
    assert manager.ask("POST", "/feedback", b" " * 3_000_000)[0] == 413
    assert manager.ask("POST", "/v2/repository/index", b" " * 100_000)[0] == 413
    asks = add_key(manager.running.folder, "asks", created="now")
    eventually(lambda: manager.ask("POST", "/feedback", {"outcomes": [good]}, key=asks)[0] == 403, timeout_s=3.0)
    told = eventually(lambda: manager.running.events("feedback"))
    assert told[0]["by"] == "night"


def test_rollouts_are_begun_moved_and_looked_at_in_the_name_of_the_key(manager: Manager) -> None:
    assert manager.ask("GET", "/rollout") == (200, {"asked": "status"})
    for path, body, wanted in (
        ("", {"releases": ["income@2"]}, {"asked": "begin", "releases": ["income@2"], "strategy": None}),
        (
            "", {"releases": ["income@2", "income@3"], "strategy": "experiment"},
            {"asked": "begin", "releases": ["income@2", "income@3"], "strategy": "experiment"},
        ),
        ("/promote", None, {"asked": "promote", "full": False}),
        ("/promote", {"full": True}, {"asked": "promote", "full": True}),
        ("/pause", {}, {"asked": "pause", "full": False}),
        ("/rollback", None, {"asked": "rollback", "full": False}),
    ):  # fmt: skip
        assert manager.ask("POST", f"/rollout{path}", body) == (200, {**wanted, "by": "night"})
    told = eventually(lambda: manager.running.events("managed")[5:] and manager.running.events("managed"))
    assert [one["what"] for one in told] == ["rollout", "rollout", "promote", "promote", "pause", "rollback"]
    assert told[0]["releases"] == ["income@2"] and {one["by"] for one in told} == {"night"}
    asks = add_key(manager.running.folder, "asks", created="now")
    eventually(lambda: manager.ask("POST", "/rollout/promote", key=asks)[0] == 403, timeout_s=3.0)


def test_what_no_rollout_takes_is_refused_with_what_is_wanted(manager: Manager) -> None:
    for method, path, body, wanted, said in (
        ("POST", "/rollout", None, 400, "releases"),
        ("POST", "/rollout", {"releases": []}, 400, "releases"),
        ("POST", "/rollout", {"releases": ["income@2"], "strategy": "canry"}, 400, "canry"),
        ("POST", "/rollout", {"releases": ["income@2"], "share": 0.1}, 400, "share"),
        ("POST", "/rollout", {"releases": ["income@x"]}, 400, "income@x"),
        ("POST", "/rollout", {"releases": ["other@2"]}, 404, "other"),
        ("POST", "/rollout/promote", {"full": "yes"}, 400, "full"),
        ("POST", "/rollout/pause", {"full": True}, 400, "{} or nothing"),
        ("POST", "/rollout/pause", b"[" * 60_000, 400, "{} or nothing"),
        ("POST", "/rollout/pause", b" " * 100_000, 413, "bytes"),
        ("POST", "/rollout/resume", None, 400, "not paused"),
        ("POST", "/rollout/stop", None, 404, "/rollout/promote"),
        ("GET", "/rollout/promote", None, 405, "method"),
        ("DELETE", "/rollout", None, 405, "method"),
    ):
        status, reply = manager.ask(method, path, body)
        assert (status, path, said in reply["error"]) == (wanted, path, True)


def test_the_index_tells_what_is_loaded(manager: Manager) -> None:
    manager.change("load", version="2")
    status, lines = manager.ask("POST", "/v2/repository/index")
    assert status == 200
    states = {one["version"]: (one["state"], one["reason"]) for one in lines}
    assert states == {"1": ("READY", "kept warm"), "2": ("READY", "answers"), "3": ("UNAVAILABLE", "not loaded")}
    _, ready = manager.ask("POST", "/v2/repository/index", {"ready": True})
    assert [one["version"] for one in ready] == ["1", "2"]


def test_a_stop_drains_and_ends(manager: Manager) -> None:
    assert manager.ask("POST", "/stop") == (200, {"detail": "Draining."})
    assert manager.running.process.wait(15) == 0


def test_the_public_door_takes_no_such_order(manager: Manager) -> None:
    for verb in ("load", "unload"):
        reply = manager.running.ask("POST", f"/v2/repository/models/income/{verb}", {}, Authorization=manager.key)
        assert reply.status >= 400 and "error" in reply.json


def test_with_a_certificate_it_speaks_tls_too(bodies: dict[str, tuple[Path, str]], tmp_path: Path) -> None:
    cert, key = certificates.write(tmp_path / "tls")
    with service(tmp_path / "income", bodies, management_port=0, tls_cert=cert, tls_key=key) as running:
        night = add_key(running.folder, "night", created="now", manage=True)
        asked = urllib.request.Request(f"https://localhost:{running.status().run.management_port}/status")
        asked.add_header("X-Api-Key", night)
        trusting = ssl.create_default_context(cafile=cert)

        def ready() -> bool:
            try:
                with urllib.request.urlopen(asked, timeout=10, context=trusting) as reply:
                    return json.loads(reply.read())["ready"] is True
            except urllib.error.HTTPError as fault:  # the key is not known yet
                fault.close()
                return False

        eventually(ready, timeout_s=5.0)
