"""Releases that many tests look at and none changes, built once however many workers run the tests."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import polars as pl
import pytest

from modelyard.store.lock import locked
from tests.journeys.making import SHOP, SPEC, Place, place_in, shop_rows


def built(factory: pytest.TempPathFactory, name: str, text: str, rows: Callable[[], pl.DataFrame]) -> Place:
    """Return a place where `modelyard run` was run once, by whichever worker came first."""
    root = factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        root = root.parent  # what all workers share
    folder = root / f"shared-{name}"
    with locked(root / f"shared-{name}.lock", patience_s=100.0):
        if not (folder / "built").exists():
            folder.mkdir()
            done = place_in(folder, text, rows()).call("run")
            assert done.code == 0, done.err
            shutil.copytree(folder / "home", folder / "as-built")  # of the other, tests open the database
            (folder / "built").touch()
    return Place(folder / "system", folder / "home")


def copy_of(place: Place, root: Path) -> Place:
    """Return a place of one's own with all that another has, for a test that harms it."""
    shutil.copytree(place.folder, root / "system")
    shutil.copytree(place.home.with_name("as-built"), root / "home")
    return Place(root / "system", root / "home")


@pytest.fixture(scope="session")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Place:
    """A binary system with one release; do not change its store."""
    return built(tmp_path_factory, "shop", SHOP, shop_rows)


__all__ = ["SPEC", "built", "copy_of", "shop"]
