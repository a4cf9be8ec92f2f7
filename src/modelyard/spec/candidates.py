"""`candidates`: the ways to meet the task that are tried."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Annotated, Literal

from pydantic import Discriminator, Field, Tag

from modelyard.core.candidate import ParamValue
from modelyard.core.space import Choice, Dimension, Fixed, Plan, Range
from modelyard.spec.data import SplitSpec
from modelyard.spec.faults import Fault, Place, nearest, show
from modelyard.spec.parameters import BUILT_IN, ENCODINGS, PARAMETERS, Algorithm, Parameter
from modelyard.spec.section import Section
from modelyard.spec.task import ModelType, TaskSpec

MOST_STEPS = 100  # values that a range with a step may have
FUNCTION = r"^[A-Za-z_][A-Za-z0-9_]*(\.[A-Za-z_][A-Za-z0-9_]*)*:[A-Za-z_][A-Za-z0-9_]*$"
NAME = r"^[a-z][a-z0-9_-]{0,62}$"
NAME_WANTED = "1 to 63 of a-z, 0-9, `_` and `-`, beginning with a letter"

Scalar = bool | int | float | str | None


class RangeSpec(Section):
    """Numbers to search, both ends possible."""

    low: int | float = Field(description="Least value.")
    high: int | float = Field(description="Largest value.")
    log: bool = Field(default=False, description="Whether values are spread evenly in the logarithm.")
    step: int | float | None = Field(default=None, gt=0, description="Distance between values; any where not given.")
    first: int | float | None = Field(default=None, description="Value to try first; the middle where not given.")


class ChoiceSpec(Section):
    """Values to search, one of a few."""

    choice: tuple[Scalar, ...] = Field(
        min_length=1, max_length=100, description="The values; the first is tried first."
    )


def _kind(value: object) -> str | None:
    if isinstance(value, Mapping):
        return "choice" if "choice" in value else "range" if value.keys() & {"low", "high"} else None
    if isinstance(value, Section):
        return "choice" if isinstance(value, ChoiceSpec) else "range"
    return None if isinstance(value, list | tuple) else "fixed"


Setting = Annotated[
    Annotated[Scalar, Tag("fixed")] | Annotated[RangeSpec, Tag("range")] | Annotated[ChoiceSpec, Tag("choice")],
    Discriminator(_kind),
    Field(json_schema_extra={"x-wanted": "a value, a range {low: …, high: …} or {choice: […]}"}),
]


class CandidateSpec(Section):
    """One way to meet the task: an algorithm with its parameters."""

    algorithm: Algorithm = Field(description="How the model is fitted.")
    name: str | None = Field(
        default=None,
        pattern=NAME,
        description="Name in tables; the algorithm's where it is not given.",
        json_schema_extra={"x-wanted": NAME_WANTED},
    )
    params: Mapping[str, Setting] = Field(
        default={},
        description="Parameters: a value, a range {low, high, log, step, first} or {choice: [...]}; "
        "those not given are searched as the table of parameters says.",
    )
    function: str | None = Field(
        default=None,
        pattern=FUNCTION,
        description="Function of your own, `module:function`; with `algorithm: function` only.",
        json_schema_extra={"x-wanted": "package.module:function"},
    )
    class_weight: Literal["balanced"] | None = Field(
        default=None, description="balanced gives rare classes the weight of common ones; null leaves rows as they are."
    )
    calibrate: bool | None = Field(
        default=None,
        description="Whether probabilities are calibrated on rows of their own; "
        "null means yes where `data.split.calibrate` gives such rows.",
    )

    @property
    def called(self) -> str:
        """The name in tables."""
        return self.name or self.algorithm.value

    @property
    def _learns(self) -> bool:
        return self.algorithm is not Algorithm.BASELINE  # its probabilities are shares of the rows already

    def space(self) -> dict[str, Dimension]:
        """Return what is searched: the table's default for each parameter, or what the spec says."""
        known = PARAMETERS[self.algorithm]
        space = {name: parameter.search for name, parameter in known.items()}
        return {**space, **{name: _dimension(value, known.get(name)) for name, value in self.params.items()}}

    def plan(self, *, calibrate: bool) -> Plan:
        """Return the candidate as the search sees it; `calibrate` says whether there are rows for it."""
        return Plan(
            name=self.called,
            algorithm=self.algorithm.value,
            encoding=ENCODINGS[self.algorithm],
            space=self.space(),
            function=self.function,
            class_weight=self.class_weight,
            calibrate=self.calibrate if self.calibrate is not None else calibrate and self._learns,
        )


def _dimension(value: Scalar | RangeSpec | ChoiceSpec, known: Parameter | None) -> Dimension:
    if isinstance(value, ChoiceSpec):
        return Choice(values=value.choice)
    if not isinstance(value, RangeSpec):
        return Fixed(value=value)
    if value.step is not None:
        return Choice(values=_steps(value))
    first = None if value.first is None else float(value.first)
    whole = known.whole if known is not None else isinstance(value.low, int) and isinstance(value.high, int)
    return Range(low=float(value.low), high=float(value.high), log=value.log, integer=whole, default=first)


def _steps(line: RangeSpec) -> tuple[ParamValue, ...]:
    assert line.step is not None
    count = int((line.high - line.low) / line.step + 1e-9) + 1
    return tuple(line.low + place * line.step for place in range(count))


def with_baseline(candidates: Sequence[CandidateSpec]) -> tuple[CandidateSpec, ...]:
    """Return the candidates with a baseline in front, unless there is one."""
    if any(candidate.algorithm is Algorithm.BASELINE for candidate in candidates):
        return tuple(candidates)
    return (CandidateSpec(algorithm=Algorithm.BASELINE), *candidates)


DEFAULT_CANDIDATES = tuple(CandidateSpec(algorithm=algorithm) for algorithm in BUILT_IN)


def check_candidate(candidate: CandidateSpec, index: int, task: TaskSpec, split: SplitSpec) -> Iterator[Fault]:
    """Yield what does not go together in one candidate."""
    place: Place = ("candidates", index)
    own = candidate.algorithm is Algorithm.FUNCTION
    if own and candidate.function is None:
        yield Fault(place=place, seen="`algorithm: function` without `function`", wanted="`function: module:function`")
    if not own and candidate.function is not None:
        yield Fault(
            place=(*place, "function"), seen=f"a function beside `algorithm: {candidate.algorithm.value}`",
            wanted="`algorithm: function`",
        )  # fmt: skip
    known = PARAMETERS[candidate.algorithm]
    for name, value in candidate.params.items():
        here = (*place, "params", name)
        if own or name in known:
            yield from _check_setting(here, value, known.get(name))
        else:
            wanted = f"one of {', '.join(known)}" if known else "no parameters"
            seen = f"an unknown parameter of {candidate.algorithm.value}"
            yield Fault(place=here, seen=seen, wanted=wanted, nearest=nearest(name, known))
    if task.type is ModelType.REGRESSION:
        for name in ("class_weight", "calibrate"):
            if getattr(candidate, name):
                yield Fault(
                    place=(*place, name), seen=f"{show(getattr(candidate, name))} in a regression",
                    wanted="no such line: it is of classes", reads=(("task", "type"),),
                )  # fmt: skip
    elif candidate.calibrate and split.calibrate == 0:
        yield Fault(
            place=(*place, "calibrate"), seen="true, but `data.split.calibrate` is 0",
            wanted="a share of rows to calibrate on", reads=(("data", "split"),),
        )  # fmt: skip


def _check_setting(place: Place, value: Scalar | RangeSpec | ChoiceSpec, known: Parameter | None) -> Iterator[Fault]:
    if isinstance(value, ChoiceSpec):
        for index, one in enumerate(value.choice):
            yield from _check_value((*place, "choice", index), one, known)
    elif isinstance(value, RangeSpec):
        yield from _check_range(place, value, known)
    else:
        yield from _check_value(place, value, known)


def _check_value(place: Place, value: ParamValue, known: Parameter | None) -> Iterator[Fault]:
    if known is not None and not known.allows(value):
        yield Fault(place=place, seen=show(value), wanted=known.wanted)


def _check_range(place: Place, line: RangeSpec, known: Parameter | None) -> Iterator[Fault]:
    if known is not None and known.low is None:
        yield Fault(place=place, seen="a range", wanted=f"{known.wanted}, or a choice of such")
        return
    yield from _check_value((*place, "low"), line.low, known)
    yield from _check_value((*place, "high"), line.high, known)
    if not line.low < line.high:
        yield Fault(place=(*place, "high"), seen=f"{line.high} with `low` {line.low}", wanted=f"more than {line.low}")
        return
    if line.log and line.low <= 0:
        yield Fault(place=(*place, "low"), seen=f"{line.low} with `log`", wanted="a number above 0")
    if line.first is not None and not line.low <= line.first <= line.high:
        wanted = f"a number from {line.low} to {line.high}, as the range is"
        yield Fault(place=(*place, "first"), seen=str(line.first), wanted=wanted)
    elif line.first is not None:
        yield from _check_value((*place, "first"), line.first, known)
    if line.step is not None:
        yield from _check_step((*place, "step"), line, line.step, known)


def _check_step(place: Place, line: RangeSpec, step: float, known: Parameter | None) -> Iterator[Fault]:
    if line.log or line.first is not None:
        other = "log" if line.log else "first"
        yield Fault(place=place, seen=f"`step` beside `{other}`", wanted="one of the two")
    elif (line.high - line.low) / step >= MOST_STEPS:
        seen = f"{step}, which makes more than {MOST_STEPS} values"
        yield Fault(place=place, seen=seen, wanted="a larger step, or none")
    elif known is not None and known.whole and not float(step).is_integer():
        yield Fault(place=place, seen=str(step), wanted="a whole number, as the parameter is")


def check_candidate_names(candidates: Sequence[CandidateSpec]) -> Iterator[Fault]:
    """Yield a fault for each name that stands there twice."""
    first: dict[str, int] = {}
    for index, candidate in enumerate(candidates):
        if candidate.called in first:
            yield Fault(
                place=("candidates", index),
                seen=f"a second candidate named {candidate.called}",
                wanted="a `name` of its own",
                also=("candidates", first[candidate.called]),
            )
        first.setdefault(candidate.called, index)
