"""Opening: every byte verified, every stranger refused, and the answers of the golden rows."""

from __future__ import annotations

import os
import shutil
import statistics
import time
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from modelyard.adapters.onnx_engine import OnnxLoader
from modelyard.bundle.format import FORMAT, GOLDEN, GRAPH, MANIFEST, PREPROCESS, SPEC, Golden
from modelyard.bundle.open import Answers, matches_golden, open_bundle, read_body, verify
from modelyard.bundle.steps import VERSION
from modelyard.core.codec import digest, digest_file
from modelyard.core.metrics import Task
from modelyard.errors import BundleAltered, BundleError, BundleFormat, ContractBroken
from tests.bundle.packed import packed, rows_of


@pytest.fixture(scope="module")
def sealed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return packed(tmp_path_factory.mktemp("sealed"))


@pytest.fixture
def body(sealed: Path, tmp_path: Path) -> Path:
    return shutil.copytree(sealed, tmp_path / "copy")


def name_of(body: Path) -> str:
    return digest_file(body / MANIFEST)


def edited(body: Path, **changes: Any) -> None:
    """Change the manifest, keeping it well formed."""
    manifest = msgspec.json.decode((body / MANIFEST).read_bytes())
    (body / MANIFEST).write_bytes(msgspec.json.encode({**manifest, **changes}))


def test_a_body_as_it_was_packed_is_whole(sealed: Path) -> None:
    verify(sealed, wanted=name_of(sealed))


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_any_changed_byte_in_any_file_is_refused(sealed: Path, data: st.DataObject) -> None:
    path = data.draw(st.sampled_from(sorted(sealed.iterdir())))
    content, wanted = path.read_bytes(), name_of(sealed)
    place = data.draw(st.integers(0, len(content) - 1))
    flip = data.draw(st.integers(1, 255))
    try:
        path.write_bytes(content[:place] + bytes([content[place] ^ flip]) + content[place + 1 :])
        with pytest.raises(BundleAltered, match="was altered: its digest is"):
            verify(sealed, wanted=wanted)
    finally:
        path.write_bytes(content)


@pytest.mark.parametrize("cut", [0, 1, -1])
def test_a_file_cut_short_or_made_longer_is_refused(body: Path, cut: int) -> None:
    content = (body / GRAPH).read_bytes()
    (body / GRAPH).write_bytes(content + b"\0" if cut == 0 else content[:cut])
    with pytest.raises(BundleAltered, match=GRAPH):
        open_bundle(body, OnnxLoader())


def test_a_file_that_was_added_is_refused(body: Path) -> None:
    (body / "sub").mkdir()
    (body / "sub" / "extra.py").write_text("import os")
    with pytest.raises(BundleAltered, match=r"sub/extra.py` was added"):
        verify(body)


@pytest.mark.parametrize("name", [GOLDEN, GRAPH, SPEC, "MLmodel"])
def test_a_missing_file_is_refused(body: Path, name: str) -> None:
    (body / name).unlink()
    with pytest.raises(BundleAltered, match=f"{name}` is missing"):
        verify(body)


def test_a_missing_manifest_is_no_bundle(body: Path, tmp_path: Path) -> None:
    wanted = name_of(body)
    (body / MANIFEST).unlink()
    for folder, digest_wanted in ((body, None), (body, wanted), (tmp_path / "nowhere", None)):
        with pytest.raises(BundleFormat, match="is not a bundle"):
            verify(folder, wanted=digest_wanted)


@pytest.mark.parametrize("name", [GRAPH, MANIFEST])
def test_a_link_is_refused_though_its_bytes_are_right(body: Path, tmp_path: Path, name: str) -> None:
    wanted = name_of(body)
    (body / name).rename(tmp_path / "elsewhere")
    (body / name).symlink_to(tmp_path / "elsewhere")
    with pytest.raises(BundleAltered, match="no file of its own"):
        verify(body, wanted=wanted)


def test_a_linked_folder_is_refused(body: Path, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (body / "more").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(BundleAltered, match="more` was added"):
        verify(body)


def test_a_pipe_in_place_of_a_file_is_refused_without_waiting_for_it(body: Path) -> None:
    (body / GRAPH).unlink()
    os.mkfifo(body / GRAPH)
    with pytest.raises(BundleAltered, match="no file of its own"):
        verify(body)


@pytest.mark.parametrize("name", ["../outside", "/etc/hostname", "./model.onnx", "sub/../model.onnx", "", "."])
def test_a_name_that_leads_elsewhere_is_refused(body: Path, name: str) -> None:
    (body.parent / "outside").write_text("x")
    files = msgspec.json.decode((body / MANIFEST).read_bytes())["files"]
    edited(body, files={**files, name: {"size": 1, "sha256": digest(b"x")}})
    with pytest.raises(BundleAltered, match="is missing"):
        verify(body)


def test_a_newer_format_is_refused_by_its_number_whatever_else_it_holds(body: Path) -> None:
    edited(body, format=FORMAT + 1, novelty={"deep": True})
    with pytest.raises(BundleFormat, match=f"has format {FORMAT + 1}.*Update Modelyard"):
        open_bundle(body, OnnxLoader())


@pytest.mark.parametrize(
    "content", [b"", b"[]", b"{", b"null", b'{"format":0}', b'{"format":"1"}', b"\xff" * 9, b"[" * 99_999]
)
def test_a_manifest_that_is_none_is_refused(body: Path, content: bytes) -> None:
    (body / MANIFEST).write_bytes(content)
    with pytest.raises(BundleFormat):
        verify(body)


def test_a_manifest_without_a_required_file_is_refused(body: Path) -> None:
    files = msgspec.json.decode((body / MANIFEST).read_bytes())["files"]
    (body / GRAPH).unlink()
    edited(body, files={name: entry for name, entry in files.items() if name != GRAPH})
    with pytest.raises(BundleFormat, match=f"has no `{GRAPH}`"):
        verify(body)


@pytest.mark.parametrize("version", [0, VERSION + 1])
def test_steps_of_another_version_are_refused_by_its_number(body: Path, version: int) -> None:
    steps = [{"type": "hologram", "column": "x"}]
    (body / PREPROCESS).write_bytes(msgspec.json.encode({"version": version, "steps": steps}))
    with pytest.raises(BundleFormat, match=f"has version {version}"):
        open_bundle(body, OnnxLoader(), verified=True)


def test_an_unknown_step_is_refused(body: Path) -> None:
    (body / PREPROCESS).write_bytes(b'{"version":1,"steps":[{"type":"pickle","column":"x"}]}')
    with pytest.raises(BundleFormat, match="cannot be read"):
        open_bundle(body, OnnxLoader(), verified=True)


@pytest.mark.parametrize("task", tuple(Task))
def test_the_golden_rows_are_answered_as_sealed(task: Task, tmp_path: Path) -> None:
    bundle = open_bundle(packed(tmp_path, task), OnnxLoader())
    golden = bundle.body.golden
    assert len(golden.rows) == 8
    answers = bundle.predict(golden.rows)
    assert len(answers) == 8 and matches_golden(answers, golden)
    named = {name: [row[name] for row in golden.rows] for name in golden.rows[0]}
    assert matches_golden(bundle.predict_values(named), golden)
    assert not matches_golden(bundle.predict(golden.rows[:7]), golden)
    assert not matches_golden(bundle.predict(golden.rows[::-1]), golden)
    assert len(bundle.predict([])) == 0
    bundle.close()
    bundle.close()


def test_other_answers_are_not_golden() -> None:
    sealed = Golden(rows=({}, {}), labels=("a", "b"), probabilities=((0.9, 0.1), (0.2, 0.8)))
    labels, table = np.array(["a", "b"], dtype=object), np.array([[0.9, 0.1], [0.2, 0.8]])
    assert matches_golden(Answers(labels=labels, probabilities=table + 9e-6), sealed)
    assert not matches_golden(Answers(labels=labels, probabilities=table + 2e-5), sealed)
    assert not matches_golden(Answers(labels=labels[::-1], probabilities=table), sealed)
    assert not matches_golden(Answers(labels=labels, probabilities=np.full((2, 2), np.nan)), sealed)
    assert not matches_golden(Answers(labels=labels, probabilities=np.zeros((2, 3))), sealed)
    assert not matches_golden(Answers(values=np.array([1.0, 2.0])), sealed)
    assert not matches_golden(Answers(), sealed)


def test_a_row_that_breaks_the_contract_is_not_answered(sealed: Path) -> None:
    bundle = open_bundle(sealed, OnnxLoader(), verified=True)
    with pytest.raises(ContractBroken, match="column `cents`"):
        bundle.predict([{**rows_of()[0], "cents": "many"}])


def test_a_body_tells_its_name_without_an_engine(sealed: Path) -> None:
    assert read_body(sealed).digest == name_of(sealed)
    with pytest.raises(BundleError):
        read_body(sealed.parent)


def test_a_single_row_is_answered_quickly(sealed: Path) -> None:
    """Thirteen columns of every kind; the bound is loose, as other work may share the machine."""
    bundle = open_bundle(sealed, OnnxLoader(), verified=True)
    row = rows_of()[0]
    times = []
    for _ in range(400):
        began = time.perf_counter()
        bundle.predict([row])
        times.append((time.perf_counter() - began) * 1e6)
    assert statistics.median(times) < 600
