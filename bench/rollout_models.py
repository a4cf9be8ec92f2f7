"""The releases that rollouts are measured with: one small model, and the same gone wrong in one way.

A row has `x`, which alone decides the sealed answer (positive from `POSITIVE_FROM` on); `u`, an even draw from [0, 1)
by which a faulty release picks the rows that it answers otherwise; `work`, how many products of matrices it takes; and
`group`. Golden rows have a `u` near 1 and no work, so that every faulty release passes its golden requests.
"""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from modelyard.adapters.onnx_engine import OnnxLoader
from modelyard.adapters.onnx_graph import GraphWriter, write_model
from modelyard.adapters.onnx_harm import Harm, spoilt
from modelyard.bundle.steps import VERSION, NumberStep, Preprocess, StringStep
from modelyard.core.arrays import Columns
from modelyard.core.clock import SystemClock
from modelyard.core.contract import Column, Contract, Kind, Role
from modelyard.core.metrics import Task
from modelyard.release.pack import GOLDEN_ROWS, Parts, pack
from modelyard.spec.load import load
from modelyard.store.open import open_store

POSITIVE_FROM = 0.7
GROUPS = ("A", "B")
CLASSES = ("no", "yes")
SIDE = 96  # of the matrix that is multiplied to pass the time
_BEYOND = 1000  # a place that no list has: looking it up is an error of the model

SPEC = """modelyard: 1
name: {name}
goal: Answer requests of one row while a rollout is measured.
task: {{type: classification, target: y, positive: "yes"}}
data: {{path: rows.csv}}
requirements: {requirements}
serving: {serving}
rollout: {rollout}
"""
SERVING = "{workers: 1, threads: 1, keep_warm_s: 5, max_delay_ms: 0, max_batch_rows: 64}"
CANARY = "{strategy: canary, steps: [{share: 0.1, least_time_s: 3600}], limit_hours: 1}"


@dataclass(frozen=True, kw_only=True)
class Fault:
    """How a release answers. The default is the good one."""

    errors: float = 0.0  # share of the rows that the model cannot bear
    flips: float = 0.0  # share of the rows whose class is turned
    denies: float = 0.0  # share of the positives of group B that are answered negative
    nans: float = 0.0  # share of the rows that are answered with NaN
    leaks: float = 0.0  # share of the rows that make the process grow
    leaked_mb: int = 0  # by how much
    work: float = 1.0  # times the work that a row asks for
    harm: Harm | None = None
    amount: int = 0  # of the harm, as `spoilt` says


GOOD = Fault()
AGAIN = Fault(amount=1)  # the good one in a body of its own: the same bytes would be the same release


@dataclass(frozen=True, kw_only=True)
class Sealing:
    """What the specs of a name say, in YAML of one line each."""

    requirements: str = "[]"
    serving: str = SERVING
    rollout: str = CANARY


def seal(home: Path, name: str, faults: list[Fault], sealing: Sealing) -> list[str]:
    """Seal a release for each fault, in order, under one name; return their names."""
    return [_seal(home, name, graph(fault), sealing, fault) for fault in faults]


def graph(fault: Fault) -> bytes:
    """Return the graph of a release."""
    writer = GraphWriter("model")
    number = lambda value: writer.constant(np.array(value, dtype=np.float64))  # noqa: E731 - read once, below
    positive = writer.node("Not", [writer.node("Less", ["x", number(POSITIVE_FROM)])])
    if fault.flips:
        positive = writer.node("Xor", [positive, writer.node("Less", ["u", number(fault.flips)])])
    is_b = writer.node(
        "LabelEncoder", ["group"], domain="ai.onnx.ml", keys_strings=["B"], values_floats=[1.0], default_float=0.0
    )
    if fault.denies:
        named = writer.node("Cast", [is_b], to=TensorProto.BOOL)
        denied = writer.node("And", [named, writer.node("Less", ["u", number(fault.denies)])])
        positive = writer.node("And", [positive, writer.node("Not", [denied])])
    share = writer.node("Add", [writer.node("Mul", [_as_float(writer, positive), _float(writer, 0.8)]),
                                _float(writer, 0.1)])  # fmt: skip
    share = writer.node("Add", [share, _worked(writer, fault.work)])
    if fault.errors:
        share = writer.node("Add", [share, _erring(writer, fault.errors)])
    if fault.nans:
        named = writer.node("Less", ["u", writer.constant(np.array(fault.nans, dtype=np.float64))])
        share = writer.node("Where", [named, _float(writer, float("nan")), share])
    if fault.leaks:
        share = writer.node("Add", [share, _grown(writer, fault.leaks, fault.leaked_mb)])
    rest = writer.node("Sub", [_float(writer, 1.0), share])
    writer.node("Concat", [rest, share], output="probabilities", axis=1)
    place = writer.node("Reshape", [writer.node("Cast", [positive], to=TensorProto.INT64),
                                    writer.constant(np.array([-1], dtype=np.int64))])  # fmt: skip
    writer.node("Gather", [writer.constant(np.array(CLASSES, dtype=object)), place], output="label", axis=0)
    made = write_model(writer, _inputs(), _outputs())
    if fault.harm is None:
        return made
    return spoilt(made, fault.harm, golden_rows=GOLDEN_ROWS, amount=fault.amount)


def _inputs() -> list[onnx.ValueInfoProto]:
    numbers = [helper.make_tensor_value_info(name, TensorProto.DOUBLE, [None, 1]) for name in ("x", "u", "work")]
    return [*numbers, helper.make_tensor_value_info("group", TensorProto.STRING, [None, 1])]


def _outputs() -> list[onnx.ValueInfoProto]:
    return [
        helper.make_tensor_value_info("label", TensorProto.STRING, [None]),
        helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, [None, 2]),
    ]


def _float(writer: GraphWriter, value: float) -> str:
    return writer.constant(np.array(value, dtype=np.float32))


def _as_float(writer: GraphWriter, name: str) -> str:
    return writer.node("Cast", [name], to=TensorProto.FLOAT)


def _erring(writer: GraphWriter, share: float) -> str:
    """Return 0, or fail where a row's `u` is below a share."""
    bad = writer.node("Less", ["u", writer.constant(np.array(share, dtype=np.float64))])
    beyond = writer.constant(np.array(_BEYOND, dtype=np.int64))
    places = writer.node("Mul", [writer.node("Cast", [bad], to=TensorProto.INT64), beyond])
    return writer.node("Gather", [writer.constant(np.zeros(1, dtype=np.float32)), places])


def _grown(writer: GraphWriter, share: float, leaked_mb: int) -> str:
    """Return 0 after memory was taken that the engine keeps, where a row's `u` is below a share."""
    bad = writer.node("Less", ["u", writer.constant(np.array(share, dtype=np.float64))])
    any_bad = writer.node("ReduceMax", [writer.node("Cast", [bad], to=TensorProto.INT64)], keepdims=0)
    more = writer.node("Mul", [any_bad, writer.constant(np.array(leaked_mb * 1024 * 1024 // 4, dtype=np.int64))])
    count = writer.node("Add", [more, writer.constant(np.array([1], dtype=np.int64))])
    ones = writer.node("ConstantOfShape", [count], value=helper.make_tensor("value", TensorProto.FLOAT, [1], [1.0]))
    return writer.node("Sub", [writer.node("ReduceMax", [ones], keepdims=0), _float(writer, 1.0)])


def _worked(writer: GraphWriter, times: float) -> str:
    """Return 0 after the work that all rows of the batch ask for."""
    asked = writer.node("Mul", [writer.node("ReduceSum", ["work"], keepdims=0),
                                writer.constant(np.array(times, dtype=np.float64))])  # fmt: skip
    turns = writer.node("Cast", [writer.node("Round", [asked])], to=TensorProto.INT64)
    zeros = np.zeros((SIDE, SIDE), dtype=np.float32)
    body = helper.make_graph(
        [
            helper.make_node("Identity", ["work_on"], ["work_goes_on"]),
            helper.make_node("MatMul", ["work_before", "work_factor"], ["work_after"]),
        ],
        "work_turn",
        [
            helper.make_tensor_value_info("work_turn_number", TensorProto.INT64, []),
            helper.make_tensor_value_info("work_on", TensorProto.BOOL, []),
            helper.make_tensor_value_info("work_before", TensorProto.FLOAT, [SIDE, SIDE]),
        ],
        [
            helper.make_tensor_value_info("work_goes_on", TensorProto.BOOL, []),
            helper.make_tensor_value_info("work_after", TensorProto.FLOAT, [SIDE, SIDE]),
        ],
        [numpy_helper.from_array(zeros, "work_factor")],
    )
    done = writer.node("Loop", [turns, "", writer.constant(zeros)], body=body)
    return writer.node("ReduceMax", [done], keepdims=0)


def _contract() -> Contract:
    numbers = [Column(name=name, kind=Kind.NUMBER, role=Role.FEATURE, nullable=False) for name in ("x", "u", "work")]
    group = Column(name="group", kind=Kind.CATEGORY, role=Role.FEATURE, nullable=False, categories=GROUPS, distinct=2)
    target = Column(name="y", kind=Kind.CATEGORY, role=Role.TARGET, nullable=False, categories=CLASSES, distinct=2)
    return Contract(task=Task.BINARY, target="y", columns=(*numbers, group, target), classes=CLASSES)


def _golden() -> Columns:
    count = GOLDEN_ROWS
    return Columns(
        {
            "x": np.linspace(0.05, 0.95, count),
            "u": np.full(count, 0.999),
            "work": np.zeros(count),
            "group": np.array([GROUPS[place % 2] for place in range(count)], dtype=object),
        }
    )


def _seal(home: Path, name: str, made: bytes, sealing: Sealing, fault: Fault) -> str:
    with tempfile.TemporaryDirectory() as place:
        folder, body = Path(place), Path(place) / "body"
        body.mkdir()
        (folder / "rows.csv").write_text("x,u,work,group,y\n0.1,0.5,1,A,no\n0.9,0.5,1,B,yes\n")
        path = folder / "system.yaml"
        path.write_text(
            SPEC.format(name=name, requirements=sealing.requirements, serving=sealing.serving, rollout=sealing.rollout)
        )
        spec = load(path)
        parts = Parts(
            name=name,
            contract=_contract(),
            preprocess=Preprocess(
                version=VERSION,
                steps=(*(NumberStep(column=one) for one in ("x", "u", "work")), StringStep(column="group")),
            ),
            graph=made,
            threshold=None,
            candidate="given",
            algorithm="onnx",
            params={"faults": repr(fault)},
            seed=0,
            spec_text=spec.text,
            spec_canonical=spec.spec.canonical(),
            spec_digest=spec.digest,
            data_digest="0" * 64,
            code_version="0",
            libraries={"onnx": onnx.__version__},
            unknown_category="accept",
            fallback=({"kind": "refuse"},),
            golden=_golden(),
        )
        pack(parts, body, OnnxLoader())
        store = open_store(home, database_url=None, user="bench", environment="sandbox", change_ticket=None,
                           command="bench", clock=SystemClock(), quota_bytes=None)  # fmt: skip
        try:
            return str(store.releases.seal(name, body, [], headline="given", spec_digest=spec.digest).id)
        finally:
            store.close()
