"""What the tests of this folder share."""

from collections.abc import Iterator

import pytest

from tests.loadtest.server import Known, known_server


@pytest.fixture
def known() -> Iterator[Known]:
    """A server whose delays and faults are known."""
    with known_server() as server:
        yield server
