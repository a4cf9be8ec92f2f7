"""The README's commands and code run as they stand, in a copy of the example."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.journeys.making import Place, ours

ROOT = Path(__file__).resolve().parents[2]
README = (ROOT / "README.md").read_text()
SEARCH = "budget: {trials: 5}"  # one of each candidate; a busy machine would get too little done in seconds


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", README, re.MULTILINE | re.DOTALL)


def commands() -> list[str]:
    """Return the lines of the shell sessions that a person types."""
    return [line[2:] for block in blocks("console") for line in block.splitlines() if line.startswith("$ ")]


@pytest.fixture(scope="module")
def example(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    root = tmp_path_factory.mktemp("readme")
    shutil.copytree(ROOT / "examples" / "income", root / "income")
    place = Place(root / "income", root / "home")
    text = place.spec.read_text()
    place.spec.write_text(re.sub(r"budget: \{seconds: \d+\}", SEARCH, text))
    assert place.spec.read_text() != text
    yield place
    for pid in ours(place.home):
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


@pytest.fixture(scope="module")
def said(example: Place) -> dict[str, str]:
    """Run every command in order, and return what each printed; each must end well."""
    here = {**example.environment, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    heard = {}
    for command in commands():
        done = subprocess.run(
            ["bash", "-c", command],
            cwd=example.folder,
            env=here,
            capture_output=True,
            text=True,
            timeout=200,
            check=False,
        )
        assert done.returncode == 0, f"$ {command}\n{done.stdout}{done.stderr}"
        heard[command] = done.stdout
    return heard


@pytest.mark.timeout(300)
def test_the_session_of_the_readme_runs_as_it_stands(said: dict[str, str], example: Place) -> None:
    assert len(said) >= 6
    run = next(out for command, out in said.items() if command.startswith("modelyard run"))
    assert re.search(r"^Sealed income@1: roc_auc 0\.9\d+", run, re.MULTILINE)
    report = next(example.folder.glob("*.html"))
    assert report.stat().st_size > 50_000
    assert ours(example.home) == set()  # it stops what it starts


@pytest.mark.timeout(300)
@pytest.mark.parametrize("code", blocks("python"))
def test_the_code_of_the_readme_runs_as_it_stands(code: str, said: dict[str, str], example: Place) -> None:
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=example.folder, env=example.environment, capture_output=True, text=True,
        timeout=100, check=False,
    )  # fmt: skip
    assert said and done.returncode == 0, done.stderr
    assert done.stdout.strip()


def test_a_session_stands_in_the_first_lines_with_its_output() -> None:
    head = "\n".join(README.splitlines()[:25])
    assert "```console" in head and len(re.findall(r"^\$ modelyard ", head, re.MULTILINE)) >= 4
    assert re.search(r"^Sealed ", head, re.MULTILINE)


def test_every_link_and_file_that_the_readme_names_is_there() -> None:
    named = re.findall(r"\]\(([^)#:]+)\)", README) + re.findall(
        r"^((?:src|examples|bench|docs)/\S*)", README, re.MULTILINE
    )
    assert named and [name for name in named if not (ROOT / name).exists()] == []
