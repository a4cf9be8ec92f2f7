"""Services: one durable row each, changed by compare-and-set."""

from __future__ import annotations

from pathlib import Path

import pytest

from modelyard.errors import StoreConflict
from tests.store.conftest import Opener
from tests.store.making import in_many, make_service


def test_a_service_comes_back_as_it_was(opener: Opener) -> None:
    service = make_service("income", 1, {"income@1": 1.0})
    opener().services.put(service, expect_epoch=None)
    assert opener().services.get("income") == service
    assert opener().services.all() == [service]
    assert opener().services.get("other") is None


def test_a_row_is_only_written_over_the_epoch_that_was_read(opener: Opener) -> None:
    services = opener().services
    services.put(make_service("income", 1, {"income@1": 1.0}), expect_epoch=None)
    services.put(make_service("income", 2, {"income@2": 1.0}), expect_epoch=1)
    for expected in (None, 1, 3):
        with pytest.raises(StoreConflict, match="its epoch is 2"):
            services.put(make_service("income", 9, {"income@3": 1.0}), expect_epoch=expected)
    found = services.get("income")
    assert found is not None
    assert found.traffic.shares == {"income@2": 1.0}


def test_an_update_of_nothing_is_refused(opener: Opener) -> None:
    opener().services.put(make_service("zero", 0, {}), expect_epoch=None)
    with pytest.raises(StoreConflict, match="its epoch is 0"):
        opener().services.put(make_service("zero", 1, {}), expect_epoch=None)
    with pytest.raises(StoreConflict, match="not there yet"):
        opener().services.put(make_service("income", 2, {}), expect_epoch=1)


@pytest.mark.parametrize("epoch", [4, 5])
def test_an_epoch_that_does_not_rise_is_refused(opener: Opener, epoch: int) -> None:
    services = opener().services
    services.put(make_service("income", 5, {}), expect_epoch=None)
    with pytest.raises(StoreConflict, match="wanted one above"):
        services.put(make_service("income", epoch, {}), expect_epoch=5)


def test_of_many_writers_each_epoch_is_won_once(opener: Opener, tmp_path: Path) -> None:
    opener().services.put(make_service("income", 1, {}), expect_epoch=None)

    def work(number: int) -> None:
        own, won = opener(), 0
        while won < 10:
            seen = own.services.get("income")
            assert seen is not None
            epoch = seen.traffic.epoch
            try:
                own.services.put(make_service("income", epoch + 1, {}), expect_epoch=epoch)
            except StoreConflict:
                continue
            won += 1

    in_many(6, work)
    found = opener().services.get("income")
    assert found is not None
    assert found.traffic.epoch == 61
