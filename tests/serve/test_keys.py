"""API keys and certificates: who is let in, how they are kept, and what is said where they cannot be used."""

from __future__ import annotations

import hashlib
import http.client
import json
import ssl
import stat
import urllib.request
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelyard.core.codec import encode
from modelyard.errors import AlreadyExists, UnknownName, UsageError
from modelyard.serve.guard.exposure import exposures, is_loopback, locked
from modelyard.serve.guard.keys import KeyRecord, Keys, KeyTable, add_key, read_keys, remove_key
from modelyard.serve.guard.tls import server_context
from modelyard.serve.messages import ERROR_FILE, KEYS_FILE, SupervisorJob
from tests.serve import certificates
from tests.serve.bodies import ROW
from tests.serve.running import eventually, launch, service, write_bodies, write_row


def keys_with(folder: Path, **rate: float) -> tuple[Keys, str]:
    key = add_key(folder, "team", created="now", **rate)  # type: ignore[arg-type]
    return Keys(folder / KEYS_FILE), key


def test_a_key_opens_in_either_header_and_nothing_else_does(tmp_path: Path) -> None:
    keys, key = keys_with(tmp_path)
    token = key.encode()
    for header in (
        {b"authorization": b"Bearer " + token},
        {b"authorization": b"bearer " + token},
        {b"x-api-key": token},
    ):
        assert keys.check(header) == "team"
    strangers = [
        {},
        {b"authorization": token},
        {b"authorization": b"Basic " + token},
        {b"authorization": b"Bearer "},
        {b"authorization": b"Bearer " + token[:-1]},
        {b"authorization": b"Bearer " + token + b" "},
        {b"x-api-key": hashlib.sha256(token).hexdigest().encode()},
        {b"x-api-key": b"x" * 100_000},
    ]
    assert [keys.check(one) for one in strangers] == [None] * len(strangers)


def test_a_key_is_kept_as_its_hash_alone_for_this_user_alone(tmp_path: Path) -> None:
    folder = tmp_path / "new" / "run"
    key = add_key(folder, "team", created="now", manage=True)
    data = (folder / KEYS_FILE).read_bytes()
    assert key.encode() not in data and key[3:].encode() not in data
    assert hashlib.sha256(key.encode()).hexdigest().encode() in data
    assert stat.S_IMODE((folder / KEYS_FILE).stat().st_mode) == 0o600
    assert len(key) >= 43  # 256 bits in base64
    assert key != add_key(folder, "other", created="now")
    with pytest.raises(AlreadyExists, match="`team`"):
        add_key(folder, "team", created="now")
    with pytest.raises(UsageError, match="label"):
        add_key(folder, "No Label", created="now")
    with pytest.raises(UnknownName, match="`nobody`"):
        remove_key(folder, "nobody")


def test_changes_are_followed_without_a_restart(tmp_path: Path) -> None:
    keys = Keys(tmp_path / KEYS_FILE)
    assert not keys.refresh()
    key = add_key(tmp_path, "team", created="now", manage=True)
    header = {b"x-api-key": key.encode()}
    assert keys.check(header) is None
    assert keys.refresh() and not keys.refresh()
    assert keys.check(header) == "team" and keys.may_manage("team") and not keys.may_manage("other")
    remove_key(tmp_path, "team")
    assert keys.refresh() and keys.check(header) is None
    add_key(tmp_path, "again", created="now")
    keys.refresh()
    (tmp_path / KEYS_FILE).unlink()
    assert keys.refresh() and not keys.refresh()


def test_a_file_that_is_no_table_of_keys_opens_for_nobody_new_and_is_told(tmp_path: Path) -> None:
    keys, key = keys_with(tmp_path)
    (tmp_path / KEYS_FILE).write_text('{"keys": [{"label": "x", "sha256": "short", "created": ""}]}')
    assert not keys.refresh() and "cannot be read" in keys.fault
    assert keys.check({b"x-api-key": key.encode()}) == "team"
    with pytest.raises(UsageError, match="Move the file away"):
        read_keys(tmp_path)
    fresh = Keys(tmp_path / KEYS_FILE)
    assert fresh.fault and fresh.check({b"x-api-key": key.encode()}) is None


@given(
    rate=st.floats(0.5, 500),
    burst=st.integers(1, 50),
    sharers=st.integers(1, 4),
    gaps=st.lists(st.floats(0, 2), max_size=80),
)
def test_a_key_never_gets_more_than_its_burst_and_its_rate(
    rate: float, burst: int, sharers: int, gaps: list[float], tmp_path_factory: pytest.TempPathFactory
) -> None:
    record = KeyRecord(label="team", sha256="0" * 64, rate=rate, burst=burst, created="")
    path = tmp_path_factory.getbasetemp() / "bucket.json"
    path.write_bytes(encode(KeyTable(keys=(record,))))
    keys = Keys(path, sharers=sharers)
    now, granted = 100.0, []
    for gap in gaps:
        now += gap
        wait_s = keys.allow("team", now)
        if wait_s is None:
            granted.append(now)
        else:
            assert 0 < wait_s <= sharers / rate + 1e-6
    for place, first in enumerate(granted):
        for count, last in enumerate(granted[place:], start=1):
            assert count <= max(1.0, burst / sharers) + (last - first) * rate / sharers + 1e-6
    assert keys.allow("nobody", now) is None


def test_a_rate_that_stays_keeps_what_was_used_of_it_over_a_change_of_other_keys(tmp_path: Path) -> None:
    keys, _ = keys_with(tmp_path, rate=0.001, burst=1)
    assert keys.allow("team", 1.0) is None
    wait_s = keys.allow("team", 1.0)
    assert wait_s is not None and wait_s > 900
    add_key(tmp_path, "other", created="now")
    assert keys.refresh() and keys.allow("team", 1.0) is not None


# a service that needs keys


def test_a_service_that_needs_keys_answers_who_shows_one(bodies: dict[str, tuple[Path, str]], tmp_path: Path) -> None:
    with service(tmp_path / "run", bodies, needs_key=True) as running:
        refused = running.predict(ROW)
        assert refused.status == 401 and refused.headers["www-authenticate"] == "Bearer"
        assert running.ask("GET", "/v2/health/ready").status == 200  # probes have no key
        key = add_key(running.folder, "team", created="now")
        slow = add_key(running.folder, "slow", created="now", rate=0.01)
        assert eventually(lambda: running.predict(ROW, Authorization=f"Bearer {key}").status == 200, timeout_s=3.0)
        assert running.predict(ROW, X_Api_Key=key).status == 200
        assert running.predict(ROW, X_Api_Key=slow).status == 200
        again = running.predict(ROW, X_Api_Key=slow)
        assert again.status == 429 and int(again.headers["retry-after"]) > 10
        remove_key(running.folder, "team")
        eventually(lambda: running.predict(ROW, X_Api_Key=key).status == 401, timeout_s=3.0)
        said = (running.folder / "front.0.log").read_text()
        assert key not in said


# TLS


def test_a_service_with_a_certificate_speaks_tls_alone(bodies: dict[str, tuple[Path, str]], tmp_path: Path) -> None:
    cert, key = certificates.write(tmp_path / "tls")
    with service(tmp_path / "run", bodies, tls_cert=cert, tls_key=key) as running:
        assert running.status().run.tls
        trusting = ssl.create_default_context(cafile=cert)
        asked = urllib.request.Request(
            f"https://localhost:{running.port}/predict",
            json.dumps({"rows": [ROW]}).encode(),
            {"Content-Type": "application/json"},
        )
        with urllib.request.urlopen(asked, timeout=10, context=trusting) as reply:
            assert reply.status == 200 and json.loads(reply.read())["served_by"] == "income@1"
        with pytest.raises((OSError, http.client.HTTPException)):
            running.predict(ROW)


def test_a_certificate_that_cannot_be_used_is_refused_in_words(tmp_path: Path) -> None:
    cert, key = certificates.write(tmp_path)
    assert server_context(None, None) is None
    context = server_context(cert, key)
    assert context is not None and context.minimum_version is ssl.TLSVersion.TLSv1_2
    (tmp_path / "other.pem").write_text(certificates.OTHER_KEY)
    (tmp_path / "locked.pem").write_text(certificates.LOCKED_KEY)
    (tmp_path / "empty.pem").write_text("")
    for wrong, said in (
        (("", key), "cannot be read"),
        ((cert, None), "needs both"),
        ((cert, str(tmp_path / "none.pem")), "none.pem` cannot be read: No such file"),
        ((cert, str(tmp_path / "other.pem")), "do not belong together"),
        ((cert, str(tmp_path / "locked.pem")), "locked with a password"),
        ((cert, str(tmp_path / "empty.pem")), "not a PEM file"),
        ((key, key), "cannot be used"),
    ):
        with pytest.raises(UsageError, match=said):
            server_context(*wrong)


def test_a_service_with_a_wrong_certificate_does_not_start_and_says_why(
    bodies: dict[str, tuple[Path, str]], tmp_path: Path
) -> None:
    folder = tmp_path / "run"
    folder.mkdir()
    write_bodies(folder, bodies)
    write_row(folder, {"income@1": 1.0}, epoch=1)
    cert, _ = certificates.write(tmp_path)
    process = launch(folder, tls_cert=cert, tls_key=str(tmp_path / "none.pem"))
    assert process.wait(20) == 2
    assert "none.pem` cannot be read" in (folder / ERROR_FILE).read_text()


# beyond this machine


def test_what_is_open_beyond_this_machine_is_said(tmp_path: Path) -> None:
    def of(**more: object) -> list[str]:
        return exposures(SupervisorJob(service="income", run_folder=str(tmp_path), **more))  # type: ignore[arg-type]

    assert of() == of(management_port=0) == []
    (open_to_all,) = of(host="0.0.0.0")
    assert "needs no API key" in open_to_all
    (in_the_clear,) = of(host="0.0.0.0", needs_key=True)
    assert "without TLS" in in_the_clear
    assert of(host="0.0.0.0", needs_key=True, tls_cert="c", tls_key="k") == []
    (management,) = of(management_host="0.0.0.0", management_port=1)
    assert "may manage" in management
    assert not is_loopback("::") and is_loopback("[::1]")


def test_what_nobody_can_open_yet_is_said(tmp_path: Path) -> None:
    job = SupervisorJob(service="income", run_folder=str(tmp_path), needs_key=True, management_port=0)
    asks, manages = locked(job, KeyTable())
    assert "modelyard keys add income" in asks and "--manage" in manages
    add_key(tmp_path, "team", created="now")
    assert locked(job, read_keys(tmp_path)) == [manages]
    add_key(tmp_path, "night", created="now", manage=True)
    assert locked(job, read_keys(tmp_path)) == []


def test_a_service_open_to_all_tells_so_when_it_starts(bodies: dict[str, tuple[Path, str]], tmp_path: Path) -> None:
    with service(tmp_path / "run", bodies, host="0.0.0.0") as running:
        (told,) = eventually(lambda: running.events("exposed"))
        assert "needs no API key" in told["why"]
        assert running.predict(ROW).status == 200
