"""Where the system lacks the OpenMP library, fitting processes find the copy that scikit-learn brings."""

from __future__ import annotations

import ctypes
import os

import pytest

from modelyard.app import openmp
from modelyard.app.spawn import child_environment


@pytest.fixture(autouse=True)
def forget() -> None:
    openmp.library_folder.cache_clear()


def test_a_system_with_the_library_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(openmp, "_loads", lambda: True)
    assert openmp.library_folder() is None
    assert child_environment().get("LD_LIBRARY_PATH") == os.environ.get("LD_LIBRARY_PATH")


def test_without_it_the_name_that_is_asked_for_leads_to_a_library_that_loads(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(openmp, "_loads", lambda: False)
    folder = openmp.library_folder()
    assert folder is not None
    assert ctypes.CDLL(str(folder / openmp.NAME)).omp_get_max_threads() >= 1
    assert child_environment()["LD_LIBRARY_PATH"].split(os.pathsep)[0] == str(folder)
    openmp.library_folder.cache_clear()
