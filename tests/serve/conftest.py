"""A service that no test harms, and the bodies that others run."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.serve.bodies import REFUSE, write_body
from tests.serve.running import Running, service


@pytest.fixture(scope="session")
def bodies(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[Path, str]]:
    folder = tmp_path_factory.mktemp("bodies")
    made = {
        "income@1": write_body(folder / "income@1"),
        "income@2": write_body(folder / "income@2", shift=1.0),
        "income@3": write_body(folder / "income@3", fallback=[REFUSE]),
    }
    return {name: (folder / name, digest) for name, digest in made.items()}


@pytest.fixture(scope="session")
def steady(bodies: dict[str, tuple[Path, str]], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """A service that no test harms."""
    with service(tmp_path_factory.mktemp("steady") / "run", bodies) as running:
        yield running
