"""The data stage: from files to checked, split Parquet parts, with what is known of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl

from modelyard.core.arrays import Array, Ints, Strings
from modelyard.core.contract import Contract, Kind, Part, Prepared, Role
from modelyard.core.data_plan import DataPlan, Goal, SplitMethod
from modelyard.core.ports import Progress
from modelyard.data.check import Checked, Shape, check, fault
from modelyard.data.leaks import find_leaks, written_number
from modelyard.data.learn import check_classes, learn, profile
from modelyard.data.load import Raw, check_schema, load
from modelyard.data.quarantine import Quarantine
from modelyard.data.sources import digest
from modelyard.data.split import PARTS, deal, in_words
from modelyard.errors import EmptyData, WrongFormat

ROW_GROUP = 1 << 17


@dataclass(frozen=True)
class _Table:
    """All rows that fit, each with the part it is dealt to, its file and its number there."""

    frame: pl.DataFrame
    parts: Ints
    files: Strings
    numbers: Ints
    shapes: tuple[Shape, ...]
    read: int
    sources: tuple[str, ...]
    digest: str
    notes: tuple[str, ...]


def prepare(plan: DataPlan, folder: Path, *, progress: Progress) -> Prepared:
    """Load, check and split a table into `folder`, and return what is known of it.

    Writes `train.parquet`, `calibrate.parquet`, `valid.parquet`, `test.parquet` and `quarantine.jsonl`.
    The same files and plan give the same bytes.
    Raises: DataError (its kinds are in errors.py) for what is wrong with the data.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with Quarantine(folder / "quarantine.jsonl") as aside:
        table = _table(plan, aside, progress)
        parts, lost = _parts(table, plan, aside)
        progress.stage("look at the columns", total=float(len(parts) + 2))
        contract = learn(parts[Part.TRAIN], table.shapes, plan)
        _write(parts, folder, progress)
        leaks = find_leaks(parts, contract)
        progress.advance(float(len(parts) + 1), f"{len(leaks)} possible leaks")
        known = profile(parts[Part.TRAIN], contract)
        progress.advance(float(len(parts) + 2))
        counts = {part: frame.height for part, frame in parts.items()}
        return Prepared(
            contract=contract,
            rows=counts,
            rows_read=table.read,
            rows_quarantined=aside.rows,
            data_digest=table.digest,
            sources=table.sources,
            profile=known,
            leaks=leaks,
            quarantine_sample=aside.sample,
            split_method=in_words(
                plan.split,
                list(counts.values()),
                own_test=plan.test_path is not None,
                stratified=plan.goal is Goal.CLASSIFICATION,
            ),
            notes=(*table.notes, *lost, *_surprises(parts, contract)),
        )


def _write(parts: Mapping[Part, pl.DataFrame], folder: Path, progress: Progress) -> None:
    for done, (part, frame) in enumerate(parts.items(), start=1):
        path = folder / f"{part}.parquet"
        frame.write_parquet(path, compression="zstd", compression_level=1, row_group_size=ROW_GROUP)
        progress.advance(float(done), f"{part}: {frame.height} rows")


def _table(plan: DataPlan, aside: Quarantine, progress: Progress) -> _Table:
    """Load and check the file or files, and deal the rows."""
    raw = _load(plan.path, plan, aside, progress)
    sources, columns = raw.sources, raw.frame.columns
    tables = [check(raw, plan, aside, where=plan.path)]
    if plan.goal is Goal.CLASSIFICATION:
        check_classes(tables[0].frame[plan.target], plan.target)
    del raw  # its text takes more memory than the typed columns
    parts = [deal(plan.split, tables[0].frame.height, own_test=plan.test_path is not None, key=_key(tables[0], plan))]
    if plan.test_path is not None:
        if Path(plan.test_path).resolve() == Path(plan.path).resolve():
            raise WrongFormat(f"`{plan.test_path}` is the training file too; test rows must be other rows.")
        other = _load(plan.test_path, plan, aside, progress)
        _check_same(columns, other, plan)
        tables.append(check(other, plan, aside, shapes=tables[0].shapes, where=plan.test_path))
        parts.append(np.full(tables[1].frame.height, PARTS.index(Part.TEST)))
        sources += other.sources
    return _Table(
        frame=pl.concat([table.frame for table in tables]),
        parts=np.concatenate(parts),
        files=np.concatenate([table.files for table in tables]),
        numbers=np.concatenate([table.numbers for table in tables]),
        shapes=tables[0].shapes,
        read=sum(table.read for table in tables),
        sources=tuple(source.name for source in sources),
        digest=digest(sources),
        notes=tuple(note for table in tables for note in table.notes),
    )


def _load(path: str, plan: DataPlan, aside: Quarantine, progress: Progress) -> Raw:
    check_schema(Path(path), plan.reading)
    return load(Path(path), plan.reading, aside, progress)


def _check_same(columns: list[str], test: Raw, plan: DataPlan) -> None:
    extra = [name for name in test.frame.columns if name not in set(columns)]
    if extra:
        raise WrongFormat(
            f"`{plan.test_path}` has columns that `{plan.path}` has not: {', '.join(f'`{name}`' for name in extra)}."
        )


def _key(table: Checked, plan: DataPlan) -> Array | None:
    """Return what the split goes by: the class, the group or the moment of each row."""
    role = {SplitMethod.GROUP: Role.GROUP, SplitMethod.TIME: Role.TIME}.get(plan.split.method)
    if plan.split.method is SplitMethod.STRATIFIED and plan.goal is Goal.CLASSIFICATION:
        role = Role.TARGET
    if role is None:
        return None
    shape = next(shape for shape in table.shapes if shape.role is role)
    values = table.frame[shape.name]
    if shape.kind in (Kind.DATE, Kind.DATETIME) or role is Role.TIME:
        return values.to_physical().to_numpy()
    return values.cast(pl.String).rank("dense").to_numpy()


def _parts(table: _Table, plan: DataPlan, aside: Quarantine) -> tuple[dict[Part, pl.DataFrame], list[str]]:
    """Cut the table into its parts; rows of a class that training has not seen are put aside."""
    kept, notes = np.ones(len(table.parts), dtype=bool), list[str]()
    if plan.goal is Goal.CLASSIFICATION:
        labels = table.frame[plan.target]
        known = labels.filter(pl.Series(table.parts == PARTS.index(Part.TRAIN))).unique()
        kept = labels.is_in(known.implode()).to_numpy()
        notes = _unseen(table, np.flatnonzero(~kept), plan.target, aside)
    parts = {part: table.frame.filter(pl.Series(kept & (table.parts == place))) for place, part in enumerate(PARTS)}
    if plan.test_path is not None and not parts[Part.TEST].height:
        raise EmptyData(f"No row of `{plan.test_path}` is left to test on.")
    return parts, notes


def _unseen(table: _Table, places: Ints, target: str, aside: Quarantine) -> list[str]:
    rule = "no training row has this class"
    rows = table.frame[places] if len(places) else table.frame.clear()
    for place, values in zip(places.tolist(), rows.iter_rows(), strict=True):
        file, number = str(table.files[place]), int(table.numbers[place])
        record = fault(rows.columns, values, column=target, rule=rule, file=file, number=number)
        aside.add(record, rule=rule)
    labels = ", ".join(f"`{label}`" for label in rows[target].unique().sort().head(5))
    return (
        [f"{len(places)} rows are of classes that no training row has ({labels}); they are in quarantine."]
        if len(places)
        else []
    )


def _surprises(parts: Mapping[Part, pl.DataFrame], contract: Contract) -> list[str]:
    """Note features that miss values outside training alone, and those that hide numbers behind signs."""
    notes = []
    for column in contract.features:
        example = written_number(parts[Part.TRAIN][column.name].drop_nulls()) if column.kind.is_string else None
        if example is not None:
            notes.append(
                f"`{column.name}` looks like numbers written with signs, such as `{example}`, and is read as text: "
                "write plain numbers, and it can be used as such."
            )
        missing = sum(frame[column.name].null_count() for frame in parts.values())
        if missing and not column.nullable:
            notes.append(f"`{column.name}` is never missing in the training rows but in {missing} other rows.")
    return notes
