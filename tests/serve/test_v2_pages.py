"""The protocol's paths beside infer: metadata, versions, statistics, repository, trace settings."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from modelyard.core.contract import Column, Kind, Role
from modelyard.core.metrics import Task
from modelyard.serve.doors import Door
from modelyard.serve.grpc.statistics import statistics
from modelyard.serve.messages import Limits
from modelyard.serve.model import Model
from modelyard.serve.request import Code, Request
from modelyard.serve.told.board import Board
from modelyard.serve.told.families import Gauge
from modelyard.serve.told.metrics import Metrics
from modelyard.serve.v2.door import V2Door
from modelyard.serve.v2.pages import EXTENSIONS, Paths, missing, model_metadata, v2_paths
from modelyard.serve.v2.statistics import LAST
from tests.serve.grpc_protos import of
from tests.serve.tensor_models import PLAIN, model_of, tensor_column


class Shown:
    """A release with or without workers."""

    def __init__(self, release: str, *, ready: bool = True, trouble: str | None = None) -> None:
        self.release, self.ready, self.trouble = release, ready, trouble
        self.model = Model(release, model_of([tensor_column("x", "FP32", 3)]).body, Limits())


class Table:
    """A traffic table with some releases beside it."""

    def __init__(self, folder: Path, live: Sequence[Shown], warm: Sequence[Shown]) -> None:
        self.run_folder, self.live = folder, list(live)
        self.lanes: Mapping[str, Shown] = {shown.release: shown for shown in (*live, *warm)}


class Desk:
    """A service that keeps what it is asked to infer or refuse."""

    def __init__(
        self, folder: Path, live: Sequence[Shown], warm: Sequence[Shown] = (), *, pin_versions: bool = False
    ) -> None:
        self.service, self.version, self.draining, self.pin_versions = "shapes", "1.2.3", False, pin_versions
        self.metrics, self.table = Metrics(), Table(folder, live, warm)
        self.ready = self.alive = True
        self.inferred: list[str | None] = []

    def infer(self, request: Request, door: Door, release: str | None = None) -> None:
        self.inferred.append(release)

    def refuse(self, request: Request, code: Code, message: str) -> None:
        request.refuse(code, message)


class Asking(Request):
    """A request that keeps its answer."""

    def __init__(self, path: bytes, body: bytes = b"") -> None:
        super().__init__(method=b"", path=path, headers={}, body=body, id="r", arrived=0.0)
        self.code: Code | None = None
        self.said: Any = None

    def answer(self, body: bytes, *, code: Code = Code.OK, **more: Any) -> None:
        self.code, self.said = code, json.loads(body)

    def refuse(self, code: Code, message: str, **more: Any) -> None:
        self.code, self.said = code, message


def ask(paths: Paths, method: bytes, path: bytes, body: bytes = b"") -> tuple[Code | None, Any]:
    request = Asking(path, body)
    head, found, rest = path.partition(b"/versions/")
    open_path = head + b"/versions/*" + rest[len(rest.partition(b"/")[0]) :] if found else path
    (paths.get(path) or paths[open_path])[method](request)
    return request.code, request.said


def test_the_server_says_what_it_can(tmp_path: Path) -> None:
    paths = v2_paths(Desk(tmp_path, [Shown("shapes@1")]), V2Door())
    assert ask(paths, b"GET", b"/v2") == (
        Code.OK,
        {"name": "modelyard", "version": "1.2.3", "extensions": list(EXTENSIONS)},
    )
    assert ask(paths, b"GET", b"/v2/health/live") == (Code.OK, {"live": True})
    assert ask(paths, b"GET", b"/v2/health/ready") == (Code.OK, {"ready": True})


def test_a_model_says_its_versions_tensors_and_columns(tmp_path: Path) -> None:
    paths = v2_paths(Desk(tmp_path, [Shown("shapes@1"), Shown("shapes@2")]), V2Door())
    code, told = ask(paths, b"GET", b"/v2/models/shapes")
    assert code is Code.OK
    assert told == {
        "name": "shapes",
        "versions": ["1", "2"],
        "platform": "onnx",
        "inputs": [{"name": "x", "datatype": "FP32", "shape": [-1, 3]}],
        "outputs": [
            {"name": "label", "datatype": "BYTES", "shape": [-1]},
            {"name": "probabilities", "datatype": "FP32", "shape": [-1, 2]},
        ],
    }
    assert ask(paths, b"GET", b"/v2/models/shapes/versions/2")[1]["versions"] == ["2"]


def test_metadata_of_plain_columns_and_of_a_regression(tmp_path: Path) -> None:
    audit = Column(name="sex", kind=Kind.CATEGORY, role=Role.AUDIT, nullable=True)
    model = model_of([*PLAIN, audit, tensor_column("ids", "INT64", -1, 4)], task=Task.REGRESSION)
    told = json.loads(model_metadata(model.body, "shapes", ["3"]))
    assert {item["name"]: (item["datatype"], item["shape"]) for item in told["inputs"]} == {
        "note": ("BYTES", [-1]),
        "count": ("INT64", [-1]),
        "day": ("BYTES", [-1]),
        "score": ("FP64", [-1]),
        "city": ("BYTES", [-1]),
        "open": ("BOOL", [-1]),
        "seen": ("BYTES", [-1]),
        "age": ("INT64", [-1]),
        "ids": ("INT64", [-1, -1, 4]),
    }
    assert told["outputs"] == [{"name": "value", "datatype": "FP64", "shape": [-1]}]


def test_a_model_is_ready_when_all_its_versions_are_and_the_service_stays(tmp_path: Path) -> None:
    desk = Desk(tmp_path, [Shown("shapes@1"), Shown("shapes@2", ready=False)])
    paths = v2_paths(desk, V2Door())
    assert ask(paths, b"GET", b"/v2/models/shapes/ready")[0] is Code.NOT_NOW
    assert ask(paths, b"GET", b"/v2/models/shapes/versions/1/ready")[0] is Code.OK
    assert ask(paths, b"GET", b"/v2/models/shapes/versions/2/ready")[0] is Code.NOT_NOW
    desk.draining = True
    assert ask(paths, b"GET", b"/v2/models/shapes/versions/1/ready")[0] is Code.NOT_NOW


def test_a_version_is_asked_for_only_where_the_spec_allows_it_or_it_is_the_only_one(tmp_path: Path) -> None:
    live = [Shown("shapes@1"), Shown("shapes@2")]
    free = Desk(tmp_path, live, pin_versions=True)
    ask(v2_paths(free, V2Door()), b"POST", b"/v2/models/shapes/versions/2/infer")
    assert free.inferred == ["shapes@2"]
    only = Desk(tmp_path, live[:1])
    ask(v2_paths(only, V2Door()), b"POST", b"/v2/models/shapes/versions/1/infer")
    assert only.inferred == ["shapes@1"]
    bound = Desk(tmp_path, live)
    code, message = ask(v2_paths(bound, V2Door()), b"POST", b"/v2/models/shapes/versions/2/infer")
    assert (code, bound.inferred) == (Code.NOT_FOUND, [])
    assert "Version 2" in message
    assert "serving.pin_versions" in message
    ask(v2_paths(bound, V2Door()), b"POST", b"/v2/models/shapes/infer")
    assert bound.inferred == [None]


@pytest.mark.parametrize(
    ("method", "verb"), [(b"GET", b""), (b"GET", b"/ready"), (b"GET", b"/stats"), (b"POST", b"/infer")]
)
def test_a_version_that_is_not_in_the_table_is_named_in_the_refusal(tmp_path: Path, method: bytes, verb: bytes) -> None:
    desk = Desk(tmp_path, [Shown("shapes@1")], [Shown("shapes@7")], pin_versions=True)
    code, message = ask(v2_paths(desk, V2Door()), method, b"/v2/models/shapes/versions/7" + verb)
    assert code is Code.NOT_FOUND
    assert message == "Version `7` of `shapes` is not in the traffic table, which has: 1."


def test_another_model_is_named_in_the_refusal() -> None:
    message = "Model `stranger` is not known here; this service answers for `shapes`."
    assert missing(b"/v2/models/stranger/infer", "shapes") == message
    assert missing(b"/v2/repository/models/stranger/load", "shapes") == message
    assert missing(b"/v3", "shapes") == missing(b"/v2/models/shapes/explain", "shapes")


def test_the_index_has_what_answers_and_what_is_kept_warm(tmp_path: Path) -> None:
    live = [Shown("shapes@1"), Shown("shapes@2", ready=False, trouble="worker_down")]
    paths = v2_paths(Desk(tmp_path, live, [Shown("shapes@7")]), V2Door())
    entry = {"name": "shapes", "version": "1", "state": "READY", "reason": ""}
    code, told = ask(paths, b"POST", b"/v2/repository/index")
    assert code is Code.OK
    assert told == [
        entry,
        {**entry, "version": "2", "state": "UNAVAILABLE", "reason": "no worker answers: worker_down"},
        {**entry, "version": "7", "state": "UNAVAILABLE", "reason": "kept warm; not in the traffic table"},
    ]
    assert ask(paths, b"POST", b"/v2/repository/index", b'{"ready": true}')[1] == [entry]
    for body in (b"[", b"[]", b'{"ready": 1}', b"\xff"):
        assert ask(paths, b"POST", b"/v2/repository/index", body)[0] is Code.MALFORMED


@pytest.mark.parametrize("verb", [b"load", b"unload"])
def test_loading_and_unloading_are_not_for_the_public_door(tmp_path: Path, verb: bytes) -> None:
    paths = v2_paths(Desk(tmp_path, [Shown("shapes@1")]), V2Door())
    code, message = ask(paths, b"POST", b"/v2/repository/models/shapes/" + verb)
    assert code is Code.NOT_ALLOWED
    assert "management address" in message


@pytest.mark.parametrize("path", [b"/v2/trace/setting", b"/v2/models/shapes/trace/setting"])
def test_trace_settings_are_shown_and_not_changed(tmp_path: Path, path: bytes) -> None:
    desk = Desk(tmp_path, [Shown("shapes@1")])
    told = ask(v2_paths(desk, V2Door(), trace_sample=0.01), b"GET", path)[1]
    assert (told["trace_level"], told["trace_rate"]) == (["TIMESTAMPS"], "100")
    paths = v2_paths(desk, V2Door())
    assert ask(paths, b"GET", path)[1]["trace_level"] == ["OFF"]
    code, message = ask(paths, b"POST", path, b'{"trace_rate": "1"}')
    assert code is Code.NOT_OFFERED
    assert "serving.trace_sample" in message


def test_statistics_are_the_sum_over_all_processes(tmp_path: Path) -> None:
    desk = Desk(tmp_path, [Shown("shapes@1"), Shown("shapes@2")])
    for name in ("front.0", "front.1"):
        metrics = Metrics(Board(tmp_path / f"{name}.board"))
        finish, batch = metrics.finish("shapes@1", "v2"), metrics.batch_done("shapes@1")
        finish([(3, 0.0, 0.25, 0.5)])
        batch(3, 0.125, 0.0625)
        metrics.requests.add("shapes@1", "rows", "422")
        metrics.board.close()
    desk.metrics.finish("shapes@2", "v2")([(1, 0.0, 0.25, 0.5)])
    paths = v2_paths(desk, V2Door())
    code, told = ask(paths, b"GET", b"/v2/models/shapes/stats")
    assert code is Code.OK
    first, second = told["model_stats"]
    nothing = {"count": 0, "ns": 0}
    assert first == {
        "name": "shapes",
        "version": "1",
        "inference_count": 6,
        "execution_count": 2,
        "inference_stats": {
            "success": {"count": 2, "ns": 1_000_000_000},
            "fail": {"count": 2, "ns": 0},
            "queue": {"count": 2, "ns": 500_000_000},
            "compute_input": {"count": 2, "ns": 125_000_000},
            "compute_infer": {"count": 2, "ns": 125_000_000},
            "compute_output": nothing,
            "cache_hit": nothing,
            "cache_miss": nothing,
        },
        "batch_stats": [],
    }
    assert (second["version"], second["inference_count"]) == ("2", 1)
    assert ask(paths, b"GET", b"/v2/models/stats")[1] == told
    assert ask(paths, b"GET", b"/v2/models/shapes/versions/1/stats")[1] == {"model_stats": [first]}


def test_the_last_inference_is_the_latest_of_all_processes_and_left_out_where_nobody_knows_it(tmp_path: Path) -> None:
    desk = Desk(tmp_path, [Shown("shapes@1"), Shown("shapes@2")])
    for name, when in (("front.0", 1_700_000_000.25), ("front.1", 1_700_000_100.5), ("front.2", math.nan)):
        board = Board(tmp_path / f"{name}.board")
        Gauge(board, LAST, "When a worker last answered a batch.", ("release",)).put("shapes@1", value=when)
        board.close()
    first, second = ask(v2_paths(desk, V2Door()), b"GET", b"/v2/models/shapes/stats")[1]["model_stats"]
    assert first["last_inference"] == 1_700_000_100_500
    assert "last_inference" not in second
    told = of("ModelStatistics").FromString(statistics([("shapes", "1"), ("shapes", "2")], desk.metrics, tmp_path))
    assert [one.last_inference for one in told.model_stats] == [1_700_000_100_500, 0]


def test_statistics_over_grpc_are_those_over_rest(tmp_path: Path) -> None:
    desk = Desk(tmp_path, [Shown("shapes@1")])
    metrics = Metrics(Board(tmp_path / "front.0.board"))
    metrics.finish("shapes@1", "grpc")([(3, 0.0, 0.25, 0.5)])
    metrics.batch_done("shapes@1")(3, 0.125, 0.0625)
    metrics.stages.add("shapes@1", "encode", value=0.03125)
    metrics.requests.add("shapes@1", "grpc", "504")
    metrics.seconds.add("shapes@1", "grpc", value=0.75)
    metrics.failed_seconds.add("shapes@1", by=0.75)
    metrics.board.close()
    (rest,) = ask(v2_paths(desk, V2Door()), b"GET", b"/v2/models/shapes/stats")[1]["model_stats"]
    (told,) = of("ModelStatistics").FromString(statistics([("shapes", "1")], desk.metrics, tmp_path)).model_stats
    assert (told.inference_count, told.execution_count) == (rest["inference_count"], rest["execution_count"]) == (3, 1)
    for stage in ("success", "fail", "queue", "compute_input", "compute_infer", "compute_output"):
        one = getattr(told.inference_stats, stage)
        assert {"count": one.count, "ns": one.ns} == rest["inference_stats"][stage] != {"count": 0, "ns": 0}, stage
