"""Services from the command line: started, listed, asked, stopped, and found dead."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.journeys.making import Place, ours
from tests.journeys.own import until
from tests.journeys.shared import copy_of

ROW = {"age": 70, "city": "rome", "hours": 40.5}


@pytest.fixture(scope="module")
def own(shop: Place, tmp_path_factory: pytest.TempPathFactory) -> Place:
    """The release in a store of this file's own."""
    return copy_of(shop, tmp_path_factory.mktemp("services"))


@pytest.fixture(autouse=True)
def no_process_stays(own: Place) -> Iterator[None]:
    yield
    own.quick("stop", "shop")
    until(lambda: not ours(own.home), timeout_s=10)


def serve(place: Place) -> dict[str, Any]:
    done = place.call("serve", "shop", "--port", "0", "--detach", "--json")
    assert done.code == 0, done.err
    run: dict[str, Any] = done.json["run"]
    return run


def ask(port: int, path: str, body: object = None) -> tuple[int, Any]:
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(f"http://127.0.0.1:{port}{path}", data, {"Content-Type": "application/json"})
    try:
        with urllib.request.urlopen(request, timeout=10) as reply:
            return reply.status, json.loads(reply.read() or b"null")
    except urllib.error.HTTPError as fault:
        with fault:
            return fault.code, json.loads(fault.read() or b"null")


def test_a_detached_service_answers_is_listed_stops_and_is_on_record(own: Place) -> None:
    run = serve(own)
    status, answer = ask(run["port"], "/api/v1/shop", {"rows": [ROW]})
    assert (status, answer["predictions"][0]["label"], answer["served_by"]) == (200, "yes", "shop@1")
    status, answer = ask(run["port"], "/api/v1/shop", {"rows": [{**ROW, "age": "old"}]})
    assert status == 422 and answer["faults"][0]["column"] == "age"
    (listed,) = own.quick("services", "--json").json
    assert listed["alive"] and listed["run"]["pid"] == run["pid"]
    assert f"http://127.0.0.1:{run['port']}" in own.quick("services").out
    stopped = own.quick("stop", "shop")
    assert stopped.code == 0 and "has drained and ended" in stopped.out
    assert own.quick("services").out == "No service runs.\n"
    again = own.quick("stop", "shop")
    assert again.code == 2 and "No service `shop` runs. None does." in again.err
    records = own.quick("show", "shop", "--json").json["evidence"]
    tried = [one["record"]["payload"] for one in records if one["record"]["payload"]["type"] == "fallback"]
    assert tried[-1]["answered"] and tried[-1]["kind"] == "constant"
    entries = own.quick("audit", "--last", "50", "--json").json
    done = {one["operation"] for one in entries if one["outcome"] == "done" and "shop" in one["resources_affected"]}
    assert {"serve", "started", "draining", "stopped", "stop"} <= done
    assert own.quick("audit", "verify").code == 0


def test_a_second_serve_of_a_name_is_refused_and_the_first_goes_on(own: Place) -> None:
    run = serve(own)
    for words in (("--detach",), ()):
        second = own.quick("serve", "shop", "--port", "0", *words)
        assert second.code == 2 and "Service `shop` runs already" in second.err
    assert ask(run["port"], "/v2/health/ready")[0] == 200
    unknown = own.quick("stop", "other")
    assert unknown.code == 2 and "No service `other` runs. There is: shop." in unknown.err


@pytest.mark.parametrize("words", [["--detach"], []])
def test_a_taken_port_is_said_with_who_has_it(own: Place, words: list[str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        done = own.call("serve", "shop", "--port", str(port), *words)
    assert done.code == 2
    assert f"Port {port} on 127.0.0.1 is taken by process {os.getpid()}" in done.err
    assert "Traceback" not in done.err
    assert own.quick("services").out == "No service runs.\n"


def test_a_supervisor_killed_is_said_and_what_it_left_is_ended(own: Place) -> None:
    run = serve(own)
    os.kill(run["pid"], signal.SIGKILL)
    until(lambda: not Path(f"/proc/{run['pid']}").exists())
    assert ask(run["port"], "/predict", {"rows": [ROW]})[0] == 200  # the front follows the local copy
    listed = own.quick("services")
    assert "supervisor died; 2 processes still answer" in listed.out
    stopped = own.quick("stop", "shop")
    assert stopped.code == 0 and f"(process {run['pid']}) was dead already; ended 2 processes" in stopped.out
    until(lambda: not ours(own.home))


def test_serving_again_after_a_kill_takes_over(own: Place) -> None:
    run = serve(own)
    os.kill(run["pid"], signal.SIGKILL)
    until(lambda: not Path(f"/proc/{run['pid']}").exists())
    second = serve(own)
    assert second["pid"] != run["pid"]
    assert ask(second["port"], "/predict", {"rows": [ROW]})[0] == 200
    until(lambda: len(ours(own.home)) == 4)  # supervisor, front, worker, and one that stands by


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_service_in_the_foreground_says_where_and_ends_when_told(own: Place, number: signal.Signals) -> None:
    running = own.start("serve", "shop", "--port", "0", "--json")
    assert running.stderr is not None
    try:
        line = running.stderr.readline()
        assert line.startswith("Service `shop` listens on http://127.0.0.1:") and "Ctrl-C" in line
        port = int(line.partition("127.0.0.1:")[2].partition(";")[0])
        until(lambda: _is_ready(port))
        os.killpg(running.pid, number)
        out, err = running.communicate(timeout=20)
        assert running.returncode == 0 and "Traceback" not in err
        assert json.loads(out) == {"service": "shop", "address": f"http://127.0.0.1:{port}"}
    finally:
        with contextlib.suppress(ProcessLookupError):
            running.kill()
        running.wait()


def _is_ready(port: int) -> bool:
    try:
        return ask(port, "/v2/health/ready")[0] == 200
    except OSError:
        return False
