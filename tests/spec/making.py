"""Specs to test with: written into a folder that has data, checked against a machine of known size."""

from __future__ import annotations

from pathlib import Path

from modelyard.errors import SpecFaults
from modelyard.spec.load import LoadedSpec, load
from modelyard.spec.world import World

LEAST = """\
name: income
task: {type: classification, target: income, positive: ">50K"}
data: {path: train.csv}
"""

REGRESSION = """\
name: bikes
task: {type: regression, target: cnt}
data: {path: train.csv}
"""


def write(folder: Path, text: str | bytes) -> Path:
    """Write a spec beside a data file of two rows; return the spec's path."""
    (folder / "train.csv").write_text("age,income\n1,<=50K\n2,>50K\n")
    path = folder / "system.yaml"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def machine(folder: Path) -> World:
    return World(folder=folder, cores=4, memory_mb=16_000)


def loaded(folder: Path, text: str | bytes) -> LoadedSpec:
    return load(write(folder, text), world=machine(folder))


def faults(folder: Path, text: str | bytes) -> list[str]:
    """Return the faults of a spec, without the file's name; nothing where it loads."""
    try:
        loaded(folder, text)
    except SpecFaults as error:
        return [fault.removeprefix("system.yaml:") for fault in error.faults]
    return []


def only(folder: Path, text: str | bytes) -> str:
    """Return the only fault of a spec."""
    found = faults(folder, text)
    assert len(found) == 1, found
    return found[0]
