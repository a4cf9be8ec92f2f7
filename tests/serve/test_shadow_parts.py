"""What shadow releases are judged by, and how a copy is cut and put together: pure parts."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from modelyard.bundle.intake import Intake, Packed
from modelyard.core.release import Traffic
from modelyard.serve.batching import Settled
from modelyard.serve.messages import Limits
from modelyard.serve.model import Model
from modelyard.serve.request import Request
from modelyard.serve.shadow.agreement import agreeing, reads_alike, tolerance
from modelyard.serve.shadow.copies import FATES, Copy, Fate
from modelyard.serve.shadow.mirror import stable_of
from tests.serve.bodies import contract

LABELS = st.lists(st.tuples(st.sampled_from("abc"), st.sampled_from("abc")), min_size=1, max_size=30)
NUMBERS = st.floats(-1e6, 1e6, allow_nan=False)


@given(LABELS, st.integers(0, 3), st.integers(0, 3))
def test_rows_agree_that_have_the_same_class_wherever_they_lie_in_their_batches(
    pairs: list[tuple[str, str]], before: int, also: int
) -> None:
    ours = Settled(["c"] * before + [one for one, _ in pairs])
    theirs = Settled(["a"] * also + [two for _, two in pairs])
    assert agreeing(ours, before, theirs, also, len(pairs), 0.0) == sum(one == two for one, two in pairs)


@given(st.lists(st.tuples(NUMBERS, NUMBERS), min_size=1, max_size=30), st.floats(0, 1e3))
def test_agreement_of_numbers_is_symmetric_and_grows_with_the_tolerance(
    pairs: list[tuple[float, float]], within: float
) -> None:
    ours, theirs = Settled(values=[one for one, _ in pairs]), Settled(values=[two for _, two in pairs])
    rows = len(pairs)
    agreed = agreeing(ours, 0, theirs, 0, rows, within)
    assert agreed == agreeing(theirs, 0, ours, 0, rows, within)
    assert agreed <= agreeing(ours, 0, theirs, 0, rows, 2 * within + 1)
    assert agreed >= sum(abs(one - two) <= within for one, two in pairs)
    assert agreeing(ours, 0, ours, 0, rows, 0.0) == rows


@given(st.lists(NUMBERS, max_size=20), NUMBERS)
def test_the_tolerance_is_of_the_spread_alone(values: list[float], shift: float) -> None:
    assert tolerance(values) >= 0
    assert abs(tolerance([value + shift for value in values]) - tolerance(values)) <= 1e-6


def test_a_classification_and_a_regression_agree_on_nothing() -> None:
    assert agreeing(Settled(["a"]), 0, Settled(values=[1.0]), 0, 1, 1.0) == 0


@given(st.integers(1, 40), st.integers(1, 15), st.randoms(use_true_random=False))
def test_a_copy_of_many_rows_is_answered_whole_in_whatever_order_its_parts_come(
    rows: int, cap: int, random: object
) -> None:
    intake = Intake(contract())
    packed = Packed(bytes(8 * len(intake.cells) * rows), [None] * (rows * len(intake.strings)))
    copy = Copy(_request(), rows, packed, None, 0)
    parts = copy.parts(intake, cap, 100, 1.0)
    assert sum(part.rows for part in parts) == rows
    assert all(part.rows <= cap for part in parts)
    starts = [sum(part.rows for part in parts[:place]) for place in range(len(parts))]
    coming = list(zip(parts, starts, strict=True))
    random.shuffle(coming)  # type: ignore[attr-defined]  # a Random, which hypothesis does not say
    whole = None
    for part, start in coming:
        assert whole is None
        whole = copy.land(part, Fate.ANSWERED, Settled(values=[float(start + row) for row in range(part.rows)]), 0)
    assert whole is not None
    answer, first = whole
    assert answer is not None
    assert answer.values is not None
    assert answer.values[first : first + rows] == [float(row) for row in range(rows)]


@given(st.lists(st.sampled_from(FATES), min_size=2, max_size=6))
def test_a_copy_has_the_worst_fate_of_its_parts(fates: list[Fate]) -> None:
    intake = Intake(contract())
    rows = len(fates)
    packed = Packed(bytes(8 * len(intake.cells) * rows), [None] * (rows * len(intake.strings)))
    copy = Copy(_request(), rows, packed, None, 0)
    ends = [
        copy.land(part, fate, Settled(values=[0.0]), 0)
        for part, fate in zip(copy.parts(intake, 1, 100, 1.0), fates, strict=True)
    ]
    assert ends[:-1] == [None] * (rows - 1)
    assert ends[-1] is not None
    assert copy.fate is max(fates, key=FATES.index)
    assert (ends[-1][0] is None) == (copy.fate is not Fate.ANSWERED)


def test_shadows_are_compared_with_the_release_before_while_it_answers() -> None:
    split = {"income@1": 0.2, "income@2": 0.8, "income@3": 0.0}
    assert stable_of(Traffic(epoch=1, shares=split, previous="income@1")) == "income@1"
    assert stable_of(Traffic(epoch=1, shares=split, previous="income@7")) == "income@2"
    assert stable_of(Traffic(epoch=1, shares=split, previous="income@3")) == "income@2"


def test_rows_are_read_once_for_releases_that_read_them_alike() -> None:
    stable = model()
    score, age = (stable.contract.column(name) for name in ("score", "age"))
    assert reads_alike(stable, model())
    assert reads_alike(stable, model(age=replace(age, minimum=0, maximum=120, nullable=True)))
    assert not reads_alike(stable, model(score=replace(score, nullable=False)))
    assert not reads_alike(stable, model(unknown_category="refuse"))
    assert reads_alike(model(unknown_category="refuse"), stable)
    assert not reads_alike(stable, model(missing_texts=("NA",)))


class _Bare(Model):
    """A model of which only the contract is asked."""

    def __init__(self, release: str, contract: object, unknown_category: str) -> None:
        self.release, self.contract, self.unknown_category = release, contract, unknown_category  # type: ignore[assignment]
        self.limits = Limits()


def model(*, unknown_category: str = "accept", missing_texts: tuple[str, ...] = (), **columns: object) -> Model:
    whole = contract()
    made = replace(
        whole, columns=tuple(columns.get(one.name, one) for one in whole.columns), missing_texts=missing_texts
    )
    return _Bare("income@1", made, unknown_category)


def _request() -> Request:
    return Request(method=b"POST", path=b"/", headers={}, body=b"", id="r-1", arrived=0.0)
