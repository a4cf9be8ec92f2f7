"""A whole service of real processes, seen from its doors."""

from __future__ import annotations

import socket
import threading
from pathlib import Path

import httpx2
import numpy as np
import pytest

from tests.serve.bodies import ROW, expected
from tests.serve.entry import MODULES
from tests.serve.load import V2, v2
from tests.serve.running import Running, eventually


def test_both_doors_answer_what_arithmetic_says(steady: Running) -> None:
    rows = [{**ROW, "age": age, "city": city} for age, city in ((20, "Paris"), (50, None), (90, "Rome"))]
    wanted = 1 / (1 + np.exp(-np.array(expected(rows))))
    plain = steady.predict(*rows)
    assert plain.status == 200
    np.testing.assert_allclose([one["probabilities"][">50K"] for one in plain.json["predictions"]], wanted, atol=1e-6)
    protocol = steady.ask("POST", V2, v2(*rows)).json
    assert [output["shape"] for output in protocol["outputs"]] == [[3], [3, 2]]
    np.testing.assert_allclose(np.array(protocol["outputs"][1]["data"]).reshape(3, 2)[:, 1], wanted, atol=1e-6)
    assert protocol["outputs"][0]["data"] == [one["label"] for one in plain.json["predictions"]]


def test_every_answer_says_who_and_which(steady: Running) -> None:
    for reply in (steady.predict(ROW), steady.ask("GET", "/v2"), steady.ask("GET", "/nowhere")):
        assert reply.headers["x-request-id"] and reply.headers["x-served-by"]
    mine = steady.predict(ROW, X_Request_Id="mine-1")
    assert (mine.headers["x-request-id"], mine.json["request_id"]) == ("mine-1", "mine-1")
    assert (mine.headers["x-served-by"], mine.json["served_by"]) == ("income@1", "income@1")


def test_the_alias_is_the_plain_door(steady: Running) -> None:
    assert steady.ask("POST", "/api/v1/income", {"rows": [ROW]}).json["predictions"]


def test_health_and_metadata_answer(steady: Running) -> None:
    for path in ("/v2/health/live", "/v2/health/ready", "/v2/models/income/ready", "/v2", "/v2/models/income"):
        assert steady.ask("GET", path).status == 200
    assert steady.ask("GET", "/v2/models/income/versions/1").json["versions"] == ["1"]


def test_the_protocols_error_names_the_column_for_clients_that_show_nothing_else(steady: Running) -> None:
    reply = steady.ask("POST", V2, v2({**ROW, "age": None}))
    assert reply.status == 422 and "column `age`" in reply.json["error"]


def test_a_compressed_body_is_refused_in_words(steady: Running) -> None:
    reply = steady.predict(ROW, Content_Encoding="gzip")
    assert reply.status == 415 and "Content-Encoding" in reply.json["error"]


@pytest.mark.parametrize("path", ["/v2/models/income/versions/2/infer", "/v2/models/outcome/infer"])
def test_a_model_or_version_that_is_not_served_is_not_found(steady: Running, path: str) -> None:
    reply = steady.ask("POST", path, v2(ROW))
    assert reply.status == 404 and reply.json["error"]


def test_the_served_version_may_be_named(steady: Running) -> None:
    assert steady.ask("POST", "/v2/models/income/versions/1/infer", v2(ROW)).json["model_version"] == "1"


def test_a_wrong_method_is_told(steady: Running) -> None:
    reply = steady.ask("GET", "/predict")
    assert (reply.status, reply.headers["allow"]) == (405, "POST")


def test_a_row_that_breaks_the_contract_gets_its_column_and_reason(steady: Running) -> None:
    reply = steady.predict(ROW, {**ROW, "age": "old", "cty": "Paris"})
    assert reply.status == 422
    assert {(fault["row"], fault["column"]) for fault in reply.json["faults"]} == {(1, "cty")}
    reply = steady.predict(ROW, {**ROW, "age": "old"})
    assert reply.json["faults"] == [{"row": 1, "column": "age", "reason": "saw 'old', wanted a number"}]
    assert steady.metric('modelyard_contract_faults_total{release="income@1",column="age"}') >= 1


def test_audit_columns_may_be_sent_and_never_reach_the_log(steady: Running) -> None:
    assert steady.predict({**ROW, "sex": "Secretvalue"}).status == 200
    assert steady.predict({**ROW, "age": "x", "sex": "Secretvalue"}, X_Request_Id="audited").status == 422
    log = steady.folder / "front.0.log"
    eventually(lambda: "audited" in log.read_text())
    assert "Secretvalue" not in log.read_text()


def test_unknown_categories_are_counted(steady: Running) -> None:
    before = steady.metric('modelyard_unknown_categories_total{release="income@1",column="city"}')
    assert steady.predict({**ROW, "city": "Atlantis"}).status == 200
    assert steady.metric('modelyard_unknown_categories_total{release="income@1",column="city"}') == before + 1


@pytest.mark.parametrize("body", [b"{", b"[]", b'{"rows": 1}'])
def test_malformed_bodies_are_refused(steady: Running, body: bytes) -> None:
    assert steady.ask("POST", "/predict", body).status == 400
    assert steady.ask("POST", V2, body).status == 400


def test_a_body_above_the_bound_is_refused(steady: Running) -> None:
    with socket.create_connection(("127.0.0.1", steady.port)) as client:
        client.sendall(b"POST /predict HTTP/1.1\r\nhost: x\r\ncontent-length: 99999999999\r\n\r\n")
        assert client.recv(1000).startswith(b"HTTP/1.1 413 ")


def test_a_deadline_that_is_no_number_is_refused(steady: Running) -> None:
    assert steady.predict(ROW, X_Deadline_Ms="soon").status == 400


def test_a_request_above_the_batch_cap_comes_back_whole_and_in_order(steady: Running) -> None:
    rows = [{**ROW, "age": number % 90} for number in range(1000)]
    reply = steady.predict(*rows)
    wanted = 1 / (1 + np.exp(-np.array(expected(rows))))
    np.testing.assert_allclose([one["probabilities"][">50K"] for one in reply.json["predictions"]], wanted, atol=1e-6)


def test_another_client_with_many_requests_at_once_gets_its_own_answers(steady: Running) -> None:
    def ask(age: int) -> None:
        with httpx2.Client() as client:
            for step in range(5):
                row = {**ROW, "age": age + step}
                reply = client.post(f"http://127.0.0.1:{steady.port}/predict", json={"rows": [row]})
                share = reply.json()["predictions"][0]["probabilities"][">50K"]
                got.append((share, 1 / (1 + np.exp(-expected([row])[0]))))

    got: list[tuple[float, float]] = []
    threads = [threading.Thread(target=ask, args=(10 * number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(got) == 40
    np.testing.assert_allclose([share for share, _ in got], [wanted for _, wanted in got], atol=1e-6)


def test_a_row_that_breaks_the_model_is_answered_by_the_fallback_and_leaves_the_others_alone(steady: Running) -> None:
    bad = steady.predict({**ROW, "age": 500})
    assert (bad.status, bad.headers["x-degraded"]) == (200, "model_error")
    assert bad.json["degraded"] is True and bad.json["served_by"] == "income@1 fallback:constant"
    assert bad.json["predictions"] == [{"label": "<=50K", "probabilities": {"<=50K": 0.75, ">50K": 0.25}}]
    good = steady.predict(ROW)
    assert "x-degraded" not in good.headers
    protocol = steady.ask("POST", V2, v2({**ROW, "score": None})).json
    assert protocol["parameters"] == {
        "served_by": "income@1 fallback:constant",
        "degraded": True,
        "reason": "model_error",
    }


def test_counts_equal_what_the_callers_counted(steady: Running) -> None:
    name = 'modelyard_requests_total{release="income@1",door="rows",code="200"}'
    before = steady.metric(name)
    for _ in range(17):
        steady.predict(ROW)
    assert steady.metric(name) == before + 17


def test_front_and_worker_import_no_heavy_library(steady: Running) -> None:
    for kind in ("front", "worker"):
        modules = (steady.folder / f"{kind}.{MODULES}").read_text().split()
        assert "numpy" in modules or kind == "worker"
        for heavy in ("polars", "scipy", "sklearn", "lightgbm", "pandas"):
            assert heavy not in modules
    maps = {kind: Path(f"/proc/{steady.pid_of(kind)}/maps").read_text() for kind in ("front", "worker")}
    for text in maps.values():
        assert not any(f"/{heavy}/" in text for heavy in ("polars", "scipy", "sklearn", "lightgbm"))
    assert "/onnxruntime/" in maps["worker"] and "/onnxruntime/" not in maps["front"]


def test_the_fallback_was_tried_when_the_service_started(steady: Running) -> None:
    assert eventually(lambda: steady.events("fallback")) == [
        {"event": "fallback", "release": "income@1", "answered": True, "kind": "constant"}
    ]


def test_sockets_and_run_files_are_this_users_alone(steady: Running) -> None:
    for name in ("control.sock", "income@1.0", "run.json", "traffic.json"):
        assert (steady.folder / name).stat().st_mode & 0o077 == 0


def raw(steady: Running, *parts: bytes) -> bytes:
    """Send bytes as they are and return what comes back until the connection is quiet or closed."""
    with socket.create_connection(("127.0.0.1", steady.port), timeout=10) as sock:
        for part in parts:
            sock.sendall(part)
        return sock.recv(1 << 16)


def test_a_header_without_an_end_is_refused_while_it_comes(steady: Running) -> None:
    assert raw(steady, b"GET /v2 HTTP/1.1\r\nhost: a\r\nx: " + b"a" * 300_000).startswith(b"HTTP/1.1 431")


def test_a_chunk_extension_without_an_end_is_refused_while_it_comes(steady: Running) -> None:
    head = b"POST /predict HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n"
    assert raw(steady, head, b"5;" + b"a" * 300_000).startswith(b"HTTP/1.1 4")


def test_many_requests_sent_at_once_are_all_answered(steady: Running) -> None:
    count = 3000
    with socket.create_connection(("127.0.0.1", steady.port), timeout=20) as sock:
        threading.Thread(
            target=sock.sendall, args=(b"GET /v2/health/live HTTP/1.1\r\nhost: a\r\n\r\n" * count,)
        ).start()
        seen = b""
        while seen.count(b"HTTP/1.1 200 OK") < count:
            came = sock.recv(1 << 16)
            assert came, seen[-500:]
            seen += came


def test_a_body_of_brackets_alone_holds_nobody_up(steady: Running) -> None:
    body = b"[" * 8_000_000
    assert steady.predict(ROW).status == 200
    reply = httpx2.post(f"http://127.0.0.1:{steady.port}/predict", content=body, timeout=20)
    assert reply.status_code in (400, 413) and "steady" not in reply.text
    assert reply.elapsed.total_seconds() < 10.0


def test_more_inputs_than_columns_are_refused_at_once(steady: Running) -> None:
    inputs = [{"name": f"n{place}", "datatype": "INT64", "shape": [1], "data": [1]} for place in range(50_000)]
    reply = steady.ask("POST", V2, {"inputs": inputs})
    assert reply.status == 400 and "50000 inputs came" in reply.json["error"]
