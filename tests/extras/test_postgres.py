"""The whole journey with the store's database on PostgreSQL, as one setting makes it."""

from __future__ import annotations

import json
import urllib.request
from dataclasses import dataclass
from pathlib import Path

import psycopg

from modelyard.app.settings import DATABASE_URL
from tests.journeys.making import SHOP, Place, shop_rows

QUICK = SHOP.replace("{trials: 4, threads: 1}", "{trials: 2, threads: 1}").replace(
    "[{algorithm: linear}, {algorithm: lightgbm, params: {max_trees: 20}}]", "[{algorithm: linear}]"
)


@dataclass(frozen=True)
class PlaceOnServer(Place):
    """A place whose store keeps its rows in a database server."""

    url: str

    @property
    def environment(self) -> dict[str, str]:
        return {**super().environment, DATABASE_URL: self.url}


def test_a_system_is_built_served_and_stopped_with_its_store_on_postgresql(postgres_url: str, tmp_path: Path) -> None:
    place = PlaceOnServer(tmp_path, tmp_path / "home", postgres_url)
    place.spec.write_text(QUICK)
    shop_rows(600).write_parquet(tmp_path / "rows.parquet")
    run = place.call("run", "--json")
    assert run.code == 0, run.err
    served = place.call("serve", "shop", "--port", "0", "--detach", "--json")
    assert served.code == 0, served.err
    try:
        state = served.json
        assert state["store"] == "reachable"
        assert _label(state["run"]["port"]) in {"no", "yes"}
    finally:
        stopped = place.call("stop", "shop")
    assert stopped.code == 0, stopped.err
    assert place.call("audit", "verify").code == 0
    assert not (place.home / "store.db").exists()
    with psycopg.connect(postgres_url.replace("+psycopg", "")) as connection:
        assert connection.execute("SELECT name, number FROM releases").fetchall() == [("shop", 1)]
        assert connection.execute("SELECT name FROM services").fetchall() == [("shop",)]


def _label(port: int) -> str:
    body = json.dumps({"rows": [{"age": 50, "city": "rome", "hours": 40.0}]}).encode()
    request = urllib.request.Request(f"http://127.0.0.1:{port}/api/v1/shop", body, {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=10) as reply:
        return str(json.load(reply)["predictions"][0]["label"])
