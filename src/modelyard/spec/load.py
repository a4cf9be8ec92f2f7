"""Reads `system.yaml`: all of it, or every fault in it at once."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from modelyard.core import codec
from modelyard.errors import SpecError, SpecFaults
from modelyard.spec import tree
from modelyard.spec.faults import Fault, Marks, show, tell
from modelyard.spec.system import System
from modelyard.spec.validate import validate
from modelyard.spec.world import World, here


@dataclass(frozen=True)
class LoadedSpec:
    """A spec as it stands in a file.

    `digest` is the SHA-256 of the spec's canonical JSON with all defaults; comments, order and the
    folder that it stands in do not matter to it.
    """

    spec: System
    path: Path
    text: str
    digest: str
    marks: Marks

    @property
    def file(self) -> str:
        """The file's name, as faults begin with it."""
        return self.path.name

    @property
    def data_path(self) -> Path:
        """Where the rows are."""
        return self.path.parent / self.spec.data.path

    @property
    def test_path(self) -> Path | None:
        """Where the test rows are, if they have a file of their own."""
        return None if self.spec.data.test_path is None else self.path.parent / self.spec.data.test_path


def load(path: Path, *, world: World | None = None) -> LoadedSpec:
    """Return the spec in a file.

    Args:
        world: what it is checked against; by default this machine and the file's folder.
    Raises: SpecError if there is no file to read; SpecFaults with everything that is wrong in it.
    """
    data = _bytes(path)
    read = tree.read(data)
    system, faults = _checked(read, world or here(path.absolute().parent))
    if system is None or faults:
        raise SpecFaults(path.name, tell(faults, path.name, read.marks))
    text = data.decode("utf-8").removeprefix("\ufeff")
    return LoadedSpec(system, path, text, codec.digest(system.canonical()), read.marks)


def _checked(read: tree.Tree, world: World) -> tuple[System | None, tuple[Fault, ...]]:
    if not read.marks.lines:
        return None, read.faults
    if not isinstance(read.value, dict):
        wanted = "a mapping with name, task and data; `modelyard init` writes one"
        return None, (*read.faults, Fault(place=(), seen=show(read.value), wanted=wanted))
    system, faults = validate(read.value, world)
    return system, (*read.faults, *faults)


def _bytes(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(tree.MOST_BYTES + 1)
    except FileNotFoundError as error:
        raise SpecError(f"There is no spec at `{path}`. Write one: `modelyard init NAME --from FILE`.") from error
    except IsADirectoryError as error:
        raise SpecError(
            f"`{path}` is a folder; wanted the file of a spec, such as `{path / 'system.yaml'}`."
        ) from error
    except (OSError, ValueError) as error:
        raise SpecError(f"`{path}` cannot be read: {error}.") from error
