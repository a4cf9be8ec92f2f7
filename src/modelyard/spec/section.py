"""What every section of the spec is made of."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field


class Section(BaseModel):
    """A part of the spec: frozen, unknown fields refused, nothing turned silently into another type."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)


def _as_written(value: object) -> object:
    """Return whole numbers, true and false as the text that stands in the data."""
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value) if isinstance(value, int) else value


Label = Annotated[
    str,
    BeforeValidator(_as_written, json_schema_input_type=str | int | bool),
    Field(json_schema_extra={"x-wanted": "text (in quotes where it could be read as something else)"}),
]
"""A value as text, the way it stands in the data; 1 means "1", true means "true"."""
