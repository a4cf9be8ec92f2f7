"""Fresh virtual environments, each with just what one test needs."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
CONSTRAINTS = ROOT / "constraints.txt"
SCRIPTS = Path(__file__).parent / "scripts"
INSTALL_TIMEOUT_S = 900.0
STRIPPED = ("PYTHON", "ORT_", "VIRTUAL_", "MODELYARD_", "XDG_")
NONE: Mapping[str, str] = {}


@dataclass(frozen=True)
class Done:
    """What a program left."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """The last line of what was written, read as JSON."""
        return json.loads(self.out.splitlines()[-1])


@dataclass(frozen=True)
class Environment:
    """A virtual environment in a folder of its own."""

    folder: Path

    @property
    def packages(self) -> dict[str, str]:
        """Name -> version of everything installed."""
        listed = self.call("-m", "pip", "list", "--format=json")
        assert listed.code == 0, listed.err
        return {entry["name"].lower(): entry["version"] for entry in json.loads(listed.out)}

    @property
    def size_mb(self) -> float:
        files = (path.stat().st_size for path in self.folder.rglob("*") if path.is_file() and not path.is_symlink())
        return sum(files) / 1e6

    def install(self, *words: str) -> None:
        """Install packages; an assertion fails with what pip said."""
        done = self.call("-m", "pip", "install", "--quiet", *words, timeout_s=INSTALL_TIMEOUT_S)
        assert done.code == 0, done.err

    def script(self, name: str, *words: str, home: Path, settings: Mapping[str, str] = NONE) -> Done:
        """Run one of `scripts`, away from this project's source."""
        return self.call(str(SCRIPTS / name), *words, home=home, settings=settings)

    def call(
        self, *words: str, home: Path | None = None, settings: Mapping[str, str] = NONE, timeout_s: float = 120.0
    ) -> Done:
        """Run Python with these words in and with the home given, and with none of this process's settings."""
        kept = {name: value for name, value in os.environ.items() if not name.startswith(STRIPPED)}
        if home is not None:
            kept["HOME"] = str(home)
        done = subprocess.run(
            [str(self.folder / "bin" / "python"), *words],
            cwd=home or self.folder,
            env={**kept, **settings},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=timeout_s,
            check=False,
        )
        return Done(done.returncode, done.stdout, done.stderr)


def fresh(folder: Path) -> Environment:
    """Make an empty environment."""
    subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True, capture_output=True, timeout=120)
    return Environment(folder)


def constrained(*requirements: str) -> tuple[str, ...]:
    """Return the words that install requirements in the versions that are tested together."""
    return ("-c", str(CONSTRAINTS), *requirements)
