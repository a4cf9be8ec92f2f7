"""Sizes, imports, names and words: what makes the house a house."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import modelyard
from modelyard.cli.main import COMMANDS

ROOT = Path(__file__).resolve().parents[2]
SOURCE = ROOT / "src" / "modelyard"
FILES = sorted(SOURCE.rglob("*.py"))
MOST_LINES = 400
MOST_FUNCTION_LINES = 60

# The only places that may import inside a function, each for its reason.
LAZY = {
    "__init__.py": "public names load on first use",
    "cli/main.py": "the table of commands",
    "adapters/__init__.py": "adapters load by name",
}
HEAVY = [
    "numpy",
    "polars",
    "scipy",
    "sklearn",
    "lightgbm",
    "onnx",
    "onnxruntime",
    "optuna",
    "pydantic",
    "sqlalchemy",
    "typer",
    "uvloop",
]


def name_of(path: Path) -> str:
    return path.relative_to(SOURCE).as_posix() if path.is_relative_to(SOURCE) else path.relative_to(ROOT).as_posix()


def functions(path: Path) -> list[ast.FunctionDef | ast.AsyncFunctionDef]:
    tree = ast.parse(path.read_text())
    return [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)]


def test_no_file_is_longer_than_one_reads_at_a_sitting() -> None:
    lengths = {name_of(path): len(path.read_text().splitlines()) for path in FILES}
    assert {name: lines for name, lines in lengths.items() if lines > MOST_LINES} == {}


def test_no_function_is_longer_than_a_screen() -> None:
    long = [
        f"{name_of(path)}: {node.name} has {(node.end_lineno or 0) - node.lineno + 1} lines"
        for path in FILES
        for node in functions(path)
        if (node.end_lineno or 0) - node.lineno + 1 > MOST_FUNCTION_LINES
    ]
    assert long == []


def test_nothing_is_imported_inside_a_function_but_in_three_places() -> None:
    lazy = {
        name_of(path)
        for path in FILES
        for node in functions(path)
        for inner in ast.walk(node)
        if isinstance(inner, ast.Import | ast.ImportFrom)
    }
    assert lazy <= LAZY.keys()


def test_nothing_waits_in_a_way_that_forgets_that_it_was_cancelled() -> None:
    forgetful = [name_of(path) for path in FILES if re.search(r"\bwait_for\(.*\bwait\(\)", path.read_text())]
    assert forgetful == []  # `serve.pause` says why


def test_modules_are_imported_by_name_only_where_the_house_says() -> None:
    named = {name_of(path) for path in FILES if re.search(r"\bimport_module\(|\b__import__\(", path.read_text())}
    entries = {"app/__main__.py"}  # one module a kind of process
    own = {"adapters/function.py"}  # the user's function, in the fitting child alone
    assert named <= LAZY.keys() | entries | own


@pytest.mark.parametrize("room", sorted(path for path in SOURCE.iterdir() if (path / "__init__.py").exists()))
def test_a_room_says_what_it_is_for(room: Path) -> None:
    said = ast.get_docstring(ast.parse((room / "__init__.py").read_text()))
    assert said is not None and len(said.split()) >= 12


def test_every_file_says_what_is_in_it() -> None:
    silent = [name_of(path) for path in FILES if not ast.get_docstring(ast.parse(path.read_text()))]
    assert silent == []


def test_public_names_are_there() -> None:
    missing = [name for name in modelyard.__all__ if not hasattr(modelyard, name)]
    assert missing == []
    with pytest.raises(AttributeError, match="`nothing`"):
        modelyard.nothing  # noqa: B018 - looking is the test


@pytest.mark.parametrize("command", COMMANDS)
def test_a_command_has_an_example_and_stands_in_the_readme(command: str) -> None:
    file, _ = COMMANDS[command]
    node = next(one for one in functions(SOURCE / "cli" / f"{file}.py") if one.name == command)
    assert f"Example: modelyard {command}" in (ast.get_docstring(node) or "")
    readme = (ROOT / "README.md").read_text()
    assert f"modelyard {command}" in readme or f"`{command}`" in readme


def modules_after(code: str) -> set[str]:
    """Return the top-level modules that are there after `code` ran in a fresh interpreter."""
    tell = "import sys; sys.stderr.write('\\n'.join({name.partition('.')[0] for name in sys.modules}))"
    wrapped = f"try:\n    {code}\nexcept SystemExit:\n    pass\n{tell}"
    done = subprocess.run([sys.executable, "-c", wrapped], capture_output=True, text=True, check=True)
    return set(done.stderr.split())


def test_importing_the_package_loads_no_heavy_library() -> None:
    assert modules_after("import modelyard") & {*HEAVY, "msgspec", "yaml"} == set()


@pytest.mark.parametrize("word", ["--help", "--version"])
def test_help_loads_no_heavy_library(word: str) -> None:
    found = modules_after(f"from modelyard.cli import main; main([{word!r}])")
    assert found & (set(HEAVY) - {"typer"}) == set()


@pytest.mark.parametrize("kind", ["front", "worker"])
def test_what_answers_requests_loads_no_library_of_training(kind: str) -> None:
    found = modules_after(f"import modelyard.app.{kind}")
    assert found & {"polars", "scipy", "sklearn", "lightgbm", "optuna", "pydantic", "sqlalchemy", "typer"} == set()
    assert "msgspec" in found


def test_what_keeps_a_service_running_stays_small() -> None:
    found = modules_after("import modelyard.app.supervisor")
    assert found & {"polars", "scipy", "sklearn", "lightgbm", "onnxruntime", "optuna", "pydantic", "typer"} == set()


def test_the_words_of_the_project_are_about_itself() -> None:
    pages = [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), *(ROOT / "examples").rglob("*.*"), *FILES]
    texts = {path: path.read_text() for path in pages if path.suffix in (".md", ".py", ".yaml", ".json")}
    named = [str(path) for path, text in texts.items() if re.search(r"/work/|\.\./shared|\bshared/data\b", text)]
    assert named == []


def test_changes_are_told_to_users() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    told = (ROOT / "CHANGELOG.md").read_text()
    assert project["version"] == modelyard.__version__
    assert f"## {project['version']}" in told or "## Unreleased" in told
