"""What the tests of this folder share."""

from tests.journeys.shared import shop

__all__ = ["shop"]
