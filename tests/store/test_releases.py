"""Releases: sealed once, numbered without gaps, verified byte by byte."""

from __future__ import annotations

import time
from pathlib import Path
from statistics import median

import pytest

from modelyard.core.ids import ReleaseId
from modelyard.core.release import Release
from modelyard.errors import BundleAltered, BundleError, BundleFormat, QuotaExceeded, UnknownName, UsageError
from modelyard.store.open import Store
from tests.store.conftest import Opener
from tests.store.making import FILES, die_at, ended, fork, in_many, make_body, make_evidence, open_here


def seal(store: Store, folder: Path, name: str = "income", **extra: int) -> Release:
    digest = make_body(folder, **extra)
    return store.releases.seal(name, folder, [make_evidence(digest)], headline="AUC 0.93", spec_digest="s" * 64)


def test_a_sealed_release_comes_back_as_it_was(opener: Opener, tmp_path: Path) -> None:
    release = seal(opener(), tmp_path / "body")
    again = opener().releases
    assert again.get("income") == again.get("income@1") == again.get(release.id) == release
    assert again.all() == again.all("income") == [release]
    assert (again.body(release.id) / "graph.onnx").read_bytes() == FILES["graph.onnx"]
    manifest = tmp_path / "body" / "manifest.json"
    assert release.size_bytes == sum(len(data) for data in FILES.values()) + manifest.stat().st_size


def test_the_evidence_comes_back_and_names_its_release(opener: Opener, tmp_path: Path) -> None:
    release = seal(opener(), tmp_path / "body")
    both = opener().releases.evidence(release.id, append=make_evidence(release.body, "tried again"))
    assert [ref.kind for ref, _ in both] == ["fallback", "fallback"]
    assert [record.release for _, record in both] == ["income@1", "income@1"]
    assert opener().releases.evidence(release.id) == both


def test_bodies_are_numbered_per_name(opener: Opener, tmp_path: Path) -> None:
    store = opener()
    made = [seal(store, tmp_path / str(n), name, n=n) for n, name in enumerate(["a", "a", "b", "a"])]
    assert [str(release.id) for release in made] == ["a@1", "a@2", "b@1", "a@3"]
    assert str(store.releases.get("a").id) == "a@3"


def test_a_body_that_the_name_has_keeps_its_number_and_gains_evidence(opener: Opener, tmp_path: Path) -> None:
    store = opener()
    first = seal(store, tmp_path / "body")
    seal(store, tmp_path / "other", n=2)
    more = [make_evidence(first.body), make_evidence(first.body, "later")]
    again = store.releases.seal("income", tmp_path / "body", more, headline="other", spec_digest="t" * 64)
    assert again == first
    details = [record.payload.detail for _, record in store.releases.evidence(first.id)]  # type: ignore[union-attr]
    assert details == ["tried", "later"]


def test_two_names_may_have_one_body(store: Store, tmp_path: Path, home: Path) -> None:
    one, two = seal(store, tmp_path / "body", "a"), seal(store, tmp_path / "body", "b")
    assert one.body == two.body
    assert [path.name for path in (home / "bodies").iterdir() if path.is_dir()] == [one.body]


def test_what_is_sealed_is_read_only_and_private(store: Store, tmp_path: Path, home: Path) -> None:
    folder = store.releases.body(seal(store, tmp_path / "body").id)
    assert {path.stat().st_mode & 0o777 for path in folder.rglob("*") if path.is_file()} == {0o444}
    assert {path.stat().st_mode & 0o777 for path in [folder, folder / "steps"]} == {0o555}
    assert home.stat().st_mode & 0o777 == 0o700
    assert (home / "store.db").stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("file", [*FILES, "manifest.json"])
def test_a_changed_byte_of_a_body_is_named_with_both_digests(store: Store, tmp_path: Path, file: str) -> None:
    release = seal(store, tmp_path / "body")
    path = store.releases.body(release.id) / file
    path.chmod(0o600)
    data = bytearray(path.read_bytes())
    data[0] ^= 1
    path.write_bytes(data)
    with pytest.raises(BundleAltered, match=rf"(?s){path}.*seen sha256 [0-9a-f]{{64}}, wanted sha256 [0-9a-f]{{64}}"):
        store.releases.body(release.id)


def test_a_missing_and_an_extra_file_of_a_body_are_named(store: Store, tmp_path: Path) -> None:
    release = seal(store, tmp_path / "body")
    folder = store.releases.body(release.id)
    folder.chmod(0o700)
    (folder / "extra").write_bytes(b"")
    with pytest.raises(BundleAltered, match=r"extra.*no file of that name"):
        store.releases.body(release.id)
    (folder / "extra").unlink()
    (folder / "graph.onnx").unlink()
    with pytest.raises(BundleAltered, match=r"graph\.onnx.*seen nothing"):
        store.releases.body(release.id)


def test_sealing_again_mends_an_altered_body(store: Store, tmp_path: Path) -> None:
    release = seal(store, tmp_path / "body")
    path = store.releases.body(release.id) / "graph.onnx"
    path.chmod(0o600)
    path.write_bytes(b"other")
    assert seal(store, tmp_path / "body") == release
    assert store.releases.body(release.id) == path.parent


def test_a_body_that_is_not_its_manifest_is_refused(store: Store, tmp_path: Path) -> None:
    digest = make_body(tmp_path / "body")
    (tmp_path / "body" / "graph.onnx").write_bytes(b"GRAPH")
    with pytest.raises(BundleAltered, match=r"graph\.onnx"):
        store.releases.seal("income", tmp_path / "body", [make_evidence(digest)], headline="", spec_digest="")
    (tmp_path / "body" / "graph.onnx").unlink()
    with pytest.raises(BundleAltered, match="seen nothing"):
        store.releases.seal("income", tmp_path / "body", [make_evidence(digest)], headline="", spec_digest="")
    assert store.releases.all() == []


def test_a_file_that_the_manifest_does_not_name_is_refused(store: Store, tmp_path: Path) -> None:
    make_body(tmp_path / "body")
    (tmp_path / "body" / "model.pkl").write_bytes(b"code")
    with pytest.raises(BundleFormat, match=r"model\.pkl"):
        store.releases.seal("income", tmp_path / "body", [], headline="", spec_digest="")


@pytest.mark.parametrize("name", ["../up", "/etc/passwd", "a//b", "manifest.json", ""])
def test_a_manifest_that_points_outside_is_refused(store: Store, tmp_path: Path, name: str) -> None:
    (tmp_path / "body").mkdir()
    manifest = f'{{"files":{{"{name}":{{"sha256":"","size":0}}}}}}'
    (tmp_path / "body" / "manifest.json").write_text(manifest)
    with pytest.raises(BundleFormat, match="plain relative name"):
        store.releases.seal("income", tmp_path / "body", [], headline="", spec_digest="")


def test_evidence_of_another_body_is_refused(store: Store, tmp_path: Path) -> None:
    make_body(tmp_path / "body")
    with pytest.raises(BundleError, match="Measure the body that is sealed"):
        store.releases.seal("income", tmp_path / "body", [make_evidence("0" * 64)], headline="", spec_digest="")
    assert store.releases.all() == []


def test_edited_evidence_is_named(store: Store, tmp_path: Path, home: Path) -> None:
    release = seal(store, tmp_path / "body")
    (path,) = (home / "releases" / "income" / "1" / "evidence").iterdir()
    path.chmod(0o600)
    path.write_bytes(path.read_bytes().replace(b"true", b"null"))
    with pytest.raises(BundleAltered, match=path.name):
        store.releases.evidence(release.id)
    path.unlink()
    with pytest.raises(BundleAltered, match="seen nothing"):
        store.releases.evidence(release.id)


def test_an_unknown_release_is_named_with_those_there_are(store: Store, tmp_path: Path) -> None:
    seal(store, tmp_path / "body")
    with pytest.raises(UnknownName, match="income@1"):
        store.releases.get("income@2")
    with pytest.raises(UnknownName, match="Known: income"):
        store.releases.get("incoem")
    with pytest.raises(UsageError, match="cannot be a name"):
        store.releases.get("../income")
    with pytest.raises(UnknownName):
        store.releases.evidence(ReleaseId(name="income", number=9))


def test_a_body_beyond_the_quota_is_refused(home: Path, tmp_path: Path) -> None:
    store = open_here(home, quota_bytes=500_000)
    digest = make_body(tmp_path / "body", {"big": b"x" * 500_000})
    with pytest.raises(QuotaExceeded, match=r"0\.5 MB"):
        store.releases.seal("income", tmp_path / "body", [make_evidence(digest)], headline="", spec_digest="")
    assert [path for path in (home / "bodies").iterdir() if path.is_dir()] == []


def test_sixteen_sealers_at_once_leave_no_gap(opener: Opener, tmp_path: Path) -> None:
    opener().close()

    def work(number: int) -> None:
        own = opener()
        for turn in range(2):
            seal(own, tmp_path / f"{number}-{turn}", number=number, turn=turn)

    in_many(16, work)
    store = opener()
    made = store.releases.all("income")
    assert [release.id.number for release in made] == list(range(1, 33))
    assert all(store.releases.body(release.id) and len(store.releases.evidence(release.id)) == 1 for release in made)


def test_killed_before_any_write_of_seal_the_release_is_absent_or_whole(home: Path, tmp_path: Path) -> None:
    open_here(home).close()
    step, code, count = 0, -9, 0
    while code == -9:
        step += 1
        folder = tmp_path / str(step)
        make_body(folder, step=step)

        def work(step: int = step, folder: Path = folder) -> None:
            own = open_here(home)
            die_at(step)
            seal(own, folder, step=step)

        code = ended(fork(work))
        after = open_here(home)
        assert len(after.releases.all()) - count in (0, 1)
        count += 1
        assert seal(after, folder, step=step).id.number == count
        assert len(after.releases.evidence(ReleaseId(name="income", number=count))) == 1
        assert after.releases.body(ReleaseId(name="income", number=count)).exists()
        after.close()
    assert code == 0
    assert step > 15


def test_five_megabytes_are_sealed_without_a_wait(store: Store, tmp_path: Path) -> None:
    spent = []
    for turn in range(3):
        digest = make_body(tmp_path / str(turn), {"graph.onnx": bytes([turn]) * 5_000_000})
        began = time.perf_counter()
        store.releases.seal("income", tmp_path / str(turn), [make_evidence(digest)], headline="", spec_digest="")
        spent.append(time.perf_counter() - began)
    assert median(spent) < 10.0
