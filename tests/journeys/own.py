"""A system whose candidate is a function of the user's own, which a test can slow, crash and mend."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

from tests.journeys.making import SHOP, Place, place_in, shop_rows

MODULE = '''
"""A linear model of the user's own; it waits while a file named `wait` is beside it."""

import time
from pathlib import Path

from sklearn.linear_model import LogisticRegression


def plain(features, target, *, weight, names, classes, seed, params):
    here = Path(__file__).parent
    (here / "begun").touch()
    while (here / "wait").exists():
        time.sleep(0.02)
    return LogisticRegression(C=params.get("strength", 1.0), max_iter=500).fit(features, target, sample_weight=weight)


def crashing(features, target, *, weight, names, classes, seed, params):
    raise ValueError("the moon is full")


def killing(features, target, *, weight, names, classes, seed, params):
    import os
    os.kill(os.getpid(), 11)


def hanging(features, target, *, weight, names, classes, seed, params):
    time.sleep(600)


def greedy(features, target, *, weight, names, classes, seed, params):
    import numpy
    return numpy.ones(200_000_000)


def unsealable(features, target, *, weight, names, classes, seed, params):
    from sklearn.gaussian_process import GaussianProcessClassifier
    return GaussianProcessClassifier().fit(features[:50], target[:50])
'''

OWN = SHOP.replace(
    "candidates: [{algorithm: linear}, {algorithm: lightgbm, params: {max_trees: 20}}]",
    "candidates: [{algorithm: function, name: own, function: 'mine:plain'}]",
)


def own_place(root: Path) -> Place:
    """Return a place with the function `mine:plain` as its candidate."""
    place = place_in(root, OWN, shop_rows(600))
    (place.folder / "mine.py").write_text(MODULE)
    return place


def until(look: Callable[[], bool], *, timeout_s: float = 30.0) -> None:
    """Wait until something is so; an assertion fails where it did not come to pass."""
    end = time.monotonic() + timeout_s
    while not look():
        assert time.monotonic() < end, "it did not come to pass in time"
        time.sleep(0.01)
