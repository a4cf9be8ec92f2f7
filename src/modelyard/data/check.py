"""Give every column its role and kind, and put aside the rows that do not fit."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl

from modelyard.core.arrays import Bools, Ints, Strings
from modelyard.core.contract import Kind, Quarantined, Role
from modelyard.core.data_plan import DataPlan, Declared, Format, Goal, Split, SplitMethod
from modelyard.data.cast import Typed, cast, clean, plain
from modelyard.data.infer import Inferred, infer, survey
from modelyard.data.load import Raw
from modelyard.data.quarantine import Quarantine, check_share, quarantined
from modelyard.errors import MissingColumn, WrongFormat

_STRICT = (Role.FEATURE, Role.TARGET, Role.TIME, Role.WEIGHT)  # a value that does not fit costs the row


@dataclass(frozen=True)
class Shape:
    """What a column is, before its values are learned."""

    name: str
    kind: Kind
    role: Role
    format: str | None = None


@dataclass(frozen=True)
class Checked:
    """A table with types: every row fits."""

    frame: pl.DataFrame
    numbers: Ints  # row number of each row in its file
    files: Strings  # its file
    shapes: tuple[Shape, ...]
    read: int
    notes: tuple[str, ...]


def check(raw: Raw, plan: DataPlan, aside: Quarantine, *, shapes: Sequence[Shape] | None = None, where: str) -> Checked:
    """Return the rows that fit, with types; the others go to quarantine.

    Args:
        shapes: what the columns are, from another file; None: as declared, or told from the values.
        where: the path, for messages.
    Raises: MissingColumn, WrongFormat, or TooManyMalformed.
    """
    names = raw.frame.columns
    wanted = [shape.name for shape in shapes] if shapes is not None else [plan.target, *plan.columns]
    missing = [name for name in wanted if name not in names]
    if missing:
        raise MissingColumn(f"`{where}`", missing, names)
    notes = list(raw.notes)
    tidy = _Tidy(raw, plan, notes)
    known = tuple(shapes) if shapes is not None else _shapes(raw, plan, tidy, notes)
    typed = {shape.name: _typed(tidy.column(shape.name), shape) for shape in known}
    bad, first = _faults(typed, known, plan)
    _put_aside(raw, bad, first, typed, aside)
    check_share(
        aside,
        malformed=raw.malformed + int(bad.sum()),
        read=raw.read,
        allowed=plan.allowed_malformed_share,
        where=where,
    )
    frame = pl.DataFrame({name: one.values for name, one in typed.items()})
    return Checked(
        frame=frame.filter(pl.Series(~bad)) if bad.any() else frame,
        numbers=raw.numbers[~bad],
        files=np.array([source.name for source in raw.sources], dtype=object)[raw.files[~bad]],
        shapes=known,
        read=raw.read,
        notes=tuple(notes),
    )


class _Tidy:
    """Cleans columns, and notes texts that were read as missing."""

    def __init__(self, raw: Raw, plan: DataPlan, notes: list[str]) -> None:
        self._raw, self._plan, self._notes = raw, plan, notes
        self._done: dict[str, pl.Series] = {}

    def column(self, name: str) -> pl.Series:
        """Return a column with missing values as null; each is cleaned once."""
        if name not in self._done:
            values = self._raw.frame[name]
            tidy = clean(values, self._plan.reading.null_values, strip=self._raw.format is Format.CSV)
            lost = values.filter(tidy.is_null() & values.is_not_null())
            if lost.dtype == pl.String:
                self._note(name, lost)
            self._done[name] = tidy
        return self._done[name]

    def _note(self, name: str, lost: pl.Series) -> None:
        counts = lost.str.strip_chars().value_counts(sort=True, name="rows").filter(pl.first() != "")
        for text, rows in sorted(counts.iter_rows(), key=lambda row: (-row[1], row[0])):
            self._notes.append(f"`{name}`: {rows} values `{text}` are read as missing (`data.null_values`).")


def _shapes(raw: Raw, plan: DataPlan, tidy: _Tidy, notes: list[str]) -> tuple[Shape, ...]:
    shapes = []
    for name in raw.frame.columns:
        declared = plan.columns.get(name, Declared())
        role = Role.TARGET if name == plan.target else declared.role or Role.FEATURE
        if not plain(raw.frame[name].dtype):
            notes.append(_unusable(name, raw.frame[name].dtype, declared, role))
            continue
        found = _inferred(name, raw, plan, role, declared, tidy)
        if found.note and declared.kind is None:
            notes.append(found.note)
        format = declared.format or (found.format if declared.kind in (None, found.kind) else None)
        is_label = role is Role.TARGET and plan.goal is Goal.CLASSIFICATION
        kind = Kind.CATEGORY if is_label else declared.kind or found.kind
        shapes.append(Shape(name=name, kind=kind, role=role, format=format))
    _check_target(next(shape for shape in shapes if shape.role is Role.TARGET), plan, tidy)
    _check_roles(shapes, plan.split)
    return tuple(shapes)


def _unusable(name: str, dtype: pl.DataType, declared: Declared, role: Role) -> str:
    if declared.kind is not None or role not in (Role.FEATURE, Role.IGNORE):
        raise WrongFormat(f"column `{name}` holds {dtype} values, which cannot be used as {declared.kind or role}.")
    return f"`{name}` holds {dtype} values, which no kind of column can hold; it is left out."


def _inferred(name: str, raw: Raw, plan: DataPlan, role: Role, declared: Declared, tidy: _Tidy) -> Inferred:
    """Tell a column's kind. Of columns that are not strict, one odd value makes all of them text."""
    if role is Role.TARGET and plan.goal is Goal.CLASSIFICATION:
        return Inferred(Kind.CATEGORY)
    if declared.kind is not None and (declared.format or not declared.kind.is_time):
        return Inferred(declared.kind)
    values = tidy.column(name)
    found = infer(name, survey(values, numbers=raw.format is Format.CSV or name in raw.mixed))
    if role in _STRICT or cast(values, found.kind, found.format).bad is None:
        return found
    return Inferred(Kind.CATEGORY, note=f"`{name}` ({role}) holds values of several kinds, so it is kept as text.")


def _check_target(target: Shape, plan: DataPlan, tidy: _Tidy) -> None:
    if plan.goal is Goal.REGRESSION and not target.kind.is_numeric:
        example = tidy.column(target.name).drop_nulls().head(3).to_list()
        raise WrongFormat(
            f"The target `{target.name}` is a {target.kind}, seen: {', '.join(f'`{one}`' for one in example)}; a "
            "regression wants plain numbers. Take away signs such as `$` and `,` between thousands, or set `task.type` "
            "to classification."
        )


def _check_roles(shapes: Sequence[Shape], split: Split) -> None:
    by_role = {role: [shape.name for shape in shapes if shape.role is role] for role in Role}
    for role in (Role.TIME, Role.GROUP, Role.WEIGHT, Role.TARGET):
        if len(by_role[role]) > 1:
            raise WrongFormat(f"Columns {by_role[role]} all have the role {role}; one may.")
    if not by_role[Role.FEATURE]:
        raise WrongFormat("No column has the role feature, so there is nothing to learn from.")
    needed = {SplitMethod.GROUP: Role.GROUP, SplitMethod.TIME: Role.TIME}.get(split.method)
    if needed is not None and not by_role[needed]:
        raise WrongFormat(
            f"`split.method: {split.method}` needs a column with `role: {needed}`. Columns: "
            f"{', '.join(shape.name for shape in shapes)}."
        )
    clock = next((shape for shape in shapes if shape.role is Role.TIME), None)
    if split.method is SplitMethod.TIME and clock is not None and clock.kind.is_string:
        raise WrongFormat(
            f"`{clock.name}` has the role time but is a {clock.kind}, so it has no order. "
            "Declare its `kind` and `format`."
        )


def _typed(values: pl.Series, shape: Shape) -> Typed:
    if shape.role is Role.IGNORE:
        return Typed(cast(values, shape.kind, shape.format).values, None, "")
    return cast(values, shape.kind, shape.format)


def _faults(
    typed: Mapping[str, Typed], shapes: Sequence[Shape], plan: DataPlan
) -> tuple[Bools, dict[int, tuple[str, str]]]:
    """Return which rows are malformed, and the first column of each with the rule that it breaks."""
    rows = len(next(iter(typed.values())).values)
    bad, first = np.zeros(rows, dtype=bool), dict[int, tuple[str, str]]()
    for shape in shapes:
        one = typed[shape.name]
        broken = [(one.bad, one.rule)] if one.bad is not None else []
        if _required(shape, plan.split):
            broken.append((one.values.is_null(), f"the {shape.role} is missing"))
        if shape.role is Role.WEIGHT:
            broken.append((one.values.cast(pl.Float64) < 0, "the weight is negative"))
        for mask, rule in broken:
            new = mask.fill_null(False).to_numpy() & ~bad
            bad |= new
            first.update(dict.fromkeys(np.flatnonzero(new).tolist(), (shape.name, rule)))
    return bad, first


def _required(shape: Shape, split: Split) -> bool:
    if shape.role is Role.GROUP:
        return split.method is SplitMethod.GROUP
    if shape.role is Role.TIME:
        return split.method is SplitMethod.TIME
    return shape.role in (Role.TARGET, Role.WEIGHT)


def _put_aside(
    raw: Raw, bad: Bools, first: Mapping[int, tuple[str, str]], typed: Mapping[str, Typed], aside: Quarantine
) -> None:
    places = np.flatnonzero(bad)
    rows = raw.frame[places].iter_rows() if len(places) else iter(())
    for place, values in zip(places.tolist(), rows, strict=True):
        column, rule = first[place]
        aside.add(
            fault(
                raw.frame.columns,
                values,
                column=column,
                rule=rule,
                file=raw.sources[raw.files[place]].name,
                number=int(raw.numbers[place]),
            ),
            rule=rule,
        )


def fault(
    names: Sequence[str], values: tuple[object, ...], *, column: str, rule: str, file: str, number: int
) -> Quarantined:
    """Return the record of a row whose value in `column` breaks a rule; the row is written as JSON."""
    value = values[names.index(column)]
    seen = "" if value is None or value == "" else f"`{str(value)[:80]}` is " if rule.startswith("not ") else ""
    row = {
        name: value if isinstance(value, str | int | float | bool | None) else str(value)
        for name, value in zip(names, values, strict=True)
    }
    return quarantined(
        file=file, row=number, column=column, reason=f"{seen}{rule}", text=json.dumps(row, ensure_ascii=False)
    )
