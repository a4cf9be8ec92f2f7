"""What a fitting process is told and what it answers."""

from __future__ import annotations

import msgspec

from modelyard.core.candidate import ParamValue, TrialState


class FitJob(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One fit. Paths are of .npy files; the answers go into `folder`."""

    trainer: str  # the adapter's registered name
    function: str | None  # module:function of the user's own
    function_path: str | None  # the folder that its module is looked for in
    params: dict[str, ParamValue]
    seed: int
    threads: int
    memory_mb: int
    timeout_s: float
    classes: int
    class_weight: str | None  # "balanced"
    names: tuple[str, ...]
    features: str
    target: str
    weight: str | None
    predict: dict[str, str]  # name -> features to answer; the answers are NAME.npy
    folder: str


class FitInfo(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`fit.json`: what the child says of a fit that worked."""

    raw: str
    fit_s: float
    facts: dict[str, ParamValue]
    refusal: str = ""  # why there is no `model.onnx`


class FitEnd(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How the child ended."""

    state: TrialState
    reason: str = ""
    peak_mb: float = 0.0
