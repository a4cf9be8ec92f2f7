"""A rollout over the management address: begun, looked at, paused and taken back in the name of a key."""

from __future__ import annotations

import http.client
import json
from collections.abc import Iterator
from typing import Any

import pytest

from tests.app.grpc_caller import free_port
from tests.app.resealed import sealed
from tests.journeys.making import Place, ours
from tests.journeys.own import until
from tests.journeys.shared import copy_of


class Manager:
    """A caller of the management address with a key that may manage."""

    def __init__(self, port: int, key: str) -> None:
        self.port, self.key = port, key

    def ask(self, method: str, path: str, body: Any = None) -> tuple[int, Any]:
        client = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        try:
            data = None if body is None else json.dumps(body)
            client.request(method, path, data, {"Authorization": f"Bearer {self.key}"})
            reply = client.getresponse()
            return reply.status, json.loads(reply.read())
        finally:
            client.close()


@pytest.fixture
def own(shop: Place, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    """A store of this test's own with two more releases, whose spec opens the management address."""
    place = copy_of(shop, tmp_path_factory.mktemp("managed"))
    for name in ("second", "third"):
        sealed(place, place.folder / name, management_port=free_port())
    yield place
    place.quick("stop", "shop")
    until(lambda: not ours(place.home), timeout_s=10)


def test_a_rollout_is_steered_over_http_as_from_the_command_line(own: Place) -> None:
    done = own.call("serve", "shop@2", "--port", "0", "--detach", "--json")
    assert done.code == 0, done.err
    key = own.quick("keys", "add", "shop", "--label", "night", "--manage", "--json").json["key"]
    manager = Manager(done.json["run"]["management_port"], key)
    until(lambda: manager.ask("GET", "/status")[0] == 200, timeout_s=5)

    status, said = manager.ask("POST", "/rollout/pause")
    assert status == 404 and said["error"] == "There is no rollout of the service `shop`. There is none yet."
    status, said = manager.ask("POST", "/rollout", {"releases": ["shop@77"], "strategy": "canary"})
    assert status == 404 and "shop@77" in said["error"]

    status, begun = manager.ask("POST", "/rollout", {"releases": ["shop@3"], "strategy": "canary"})
    assert status == 200, begun
    assert begun["course"]["by"] == "night" and begun["changed"]["shares"] == {"shop@2": 0.9, "shop@3": 0.1}
    assert manager.ask("POST", "/rollout/pause")[1]["paused"] is True
    status, said = manager.ask("POST", "/rollout/pause")
    assert status == 400 and "is paused already" in said["error"]
    status, seen = manager.ask("GET", "/rollout")
    told = own.quick("status", "shop", "--json").json
    assert status == 200 and seen["course"]["id"] == told["course"]["id"] == begun["course"]["id"]
    assert seen["traffic"] == told["traffic"] and seen["is_open"] is True

    status, back = manager.ask("POST", "/rollout/rollback")
    assert (status, back["release"]) == (200, "shop@2")
    until(lambda: manager.ask("GET", "/rollout")[1]["is_open"] is False, timeout_s=20)
    ended = manager.ask("GET", "/rollout")[1]["course"]["ended"]
    assert ended["how"] == "taken_back" and "by hand" in ended["reason"]
    status, said = manager.ask("POST", "/rollout/promote", {"full": True})
    assert status == 400 and "has ended" in said["error"]
    entries = own.quick("audit", "--last", "80", "--json").json
    mine = {one["operation"] for one in entries if one["user"] == "night" and one["command"] == "management address"}
    assert {"pause", "rollback", "traffic"} <= mine
