"""Charts: well-formed, deterministic, true to their numbers, unmoved by hostile or odd ones."""

from __future__ import annotations

import math
import re
import xml.etree.ElementTree as ET

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from modelyard.release.axes import axis, focus, nice_ticks, tick_names
from modelyard.release.charts import Mark, Series, histogram, plot
from modelyard.release.strips import bars, heatmap, interval_bar, shares, spark

NUMBERS = st.floats(allow_nan=True, allow_infinity=True)
SPANS = st.tuples(st.floats(-1e12, 1e12), st.floats(1e-9, 1e12)).filter(lambda p: p[1] > abs(p[0]) * 1e-9)
SVG = "{http://www.w3.org/2000/svg}"


def coordinates(picture: str) -> list[float]:
    drawn = re.findall(r'(?: d| x| y| cx| cy| width| height)="([^"]*)"', picture)
    return [float(n) for each in drawn for n in re.findall(r"-?\d+\.?\d*", each)]


@given(SPANS)
def test_ticks_are_few_round_evenly_spaced_and_within_the_range(span: tuple[float, float]) -> None:
    low, high = span[0], span[0] + span[1]
    ticks = nice_ticks(low, high)
    step = np.diff(ticks)
    assert 2 <= len(ticks) <= 11
    assert np.allclose(step, step[0])
    assert low - step[0] * 1e-6 <= ticks[0] <= ticks[-1] <= high + step[0] * 1e-6
    leading = step[0] / 10 ** math.floor(math.log10(step[0] * 1.0001))
    assert min(abs(leading - nice) for nice in (1, 2, 5, 10)) < 1e-3


@given(SPANS)
@example((0.5, 1e-9))
def test_ticks_are_told_apart_by_their_names(span: tuple[float, float]) -> None:
    names = tick_names(nice_ticks(span[0], span[0] + span[1]))
    assert len(set(names)) == len(names)


def test_large_ticks_are_told_in_thousands_and_millions() -> None:
    assert tick_names((0.0, 20_000.0, 40_000.0)) == ("0", "20k", "40k")
    assert tick_names((0.0, 0.5e6, 1e6)) == ("0", "0.5M", "1.0M")
    assert tick_names((-0.5, 0.0, 0.5)) == ("\N{MINUS SIGN}0.5", "0", "0.5")


def test_an_axis_ends_at_a_value_it_must_include_and_leaves_room_at_others() -> None:
    made = axis("x", [0.2, 0.8], include=(0.0,))
    assert made.low == 0.0
    assert made.high > 0.8


@given(st.lists(st.tuples(NUMBERS, NUMBERS), max_size=20), st.sampled_from(["line", "steps", "dots", "crosses"]))
def test_a_plot_of_any_numbers_is_well_formed_and_stays_in_its_frame(
    points: list[tuple[float, float]], style: str
) -> None:
    x, y = [p[0] for p in points], [p[1] for p in points]
    series = Series(name="a", x=x, y=y, style=style)  # type: ignore[arg-type]
    picture = plot([series], title="t", x=axis("x", x), y=axis("y", y), marks=[Mark(text="m", x=0.0)])
    ET.fromstring(picture)
    assert all(-20 <= c <= 400 for c in coordinates(picture))


def test_a_line_goes_from_the_lower_left_to_the_upper_right_of_its_axes() -> None:
    unit = axis("x", (), include=(0.0, 1.0))
    picture = plot([Series(name="", x=[0, 1], y=[0, 1])], title="t", x=unit, y=unit)
    assert 'd="M46 224L328 26"' in picture


def test_series_differ_in_marker_and_are_named_in_words() -> None:
    unit = axis("x", (), include=(0.0, 1.0))
    series = [Series(name=f"s{i}", x=[0.5], y=[0.5], style="dots", tone=i) for i in range(8)]
    root = ET.fromstring(plot(series, title="t", x=unit, y=unit))
    words = {e.text for e in root.iter(f"{SVG}text")}
    assert {f"s{i}" for i in range(8)} <= words
    drawn = {
        re.sub(r"M[\d.]+ [\d.]+", "", e.get("d", "")) for e in root.iter(f"{SVG}path") if "points" in e.get("class", "")
    }
    assert len(drawn) == 5


def test_bars_of_equal_bins_are_as_high_as_their_counts() -> None:
    root = ET.fromstring(histogram([0, 1, 2, 3], [5, 10, 0], title="t", x_label="x"))
    heights = [float(e.get("height", "")) for e in root.iter(f"{SVG}rect")]
    assert heights[0] == pytest.approx(heights[1] / 2, abs=0.1)
    assert heights[2] == 0


def test_bars_of_unequal_bins_have_the_area_of_their_counts() -> None:
    root = ET.fromstring(histogram([0, 1, 5], [10, 10], title="t", x_label="x"))
    areas = [(float(e.get("width", "")) + 0.6) * float(e.get("height", "")) for e in root.iter(f"{SVG}rect")]
    assert areas[0] == pytest.approx(areas[1], rel=0.02)


def test_an_interval_bar_draws_value_interval_and_bound_where_they_are() -> None:
    scale = axis("", (), include=(0.0, 1.0))
    root = ET.fromstring(interval_bar(0.5, 0.25, 0.75, scale=scale, title="t", bound=0.2, width=110))
    [dot] = root.iter(f"{SVG}circle")
    paths = {e.get("class"): e.get("d") for e in root.iter(f"{SVG}path")}
    assert dot.get("cx") == "55"
    assert paths["range"] == "M30 9L80 9"
    assert paths["bound"] == "M25 0L25 18"


def test_a_value_beyond_the_scale_is_an_arrow_at_its_edge() -> None:
    scale = axis("", (), include=(0.0, 1.0))
    picture = interval_bar(-3.0, -4.0, -2.0, scale=scale, title="t")
    assert "<circle" not in picture
    assert "Z" in picture


@given(NUMBERS, st.none() | NUMBERS, st.none() | NUMBERS, st.none() | st.floats(-1e9, 1e9))
def test_an_interval_bar_of_any_numbers_is_well_formed(
    value: float, low: float | None, high: float | None, bound: float | None
) -> None:
    picture = interval_bar(value, low, high, scale=axis("", [value, low, high, bound]), title="t", bound=bound)
    ET.fromstring(picture)
    assert "nan" not in picture
    assert "inf" not in picture


def test_the_confusion_matrix_shows_each_count_and_names_each_cell() -> None:
    root = ET.fromstring(heatmap(["no", "yes"], [[90, 10], [3, 7]], title="t"))
    words = {e.text for e in root.iter(f"{SVG}text")}
    tips = {e.text for e in root.iter(f"{SVG}title")}
    assert {"90", "10", "3", "7", "90.0 %", "30.0 %"} <= words
    assert "true yes, predicted no: 3 (30.0 % of the row)" in tips


def test_a_matrix_of_many_classes_keeps_its_counts_in_tooltips() -> None:
    names = [f"class {i}" for i in range(40)]
    root = ET.fromstring(heatmap(names, np.eye(40, dtype=int).tolist(), title="t"))
    assert len(list(root.iter(f"{SVG}rect"))) == 1600


def test_bars_start_at_zero_and_go_left_for_what_is_negative() -> None:
    root = ET.fromstring(bars([("a", 2.0), ("b", -1.0)], title="t", names=["2", "-1"]))
    first, second = (e for e in root.iter(f"{SVG}rect"))
    assert float(first.get("width", "")) == pytest.approx(2 * float(second.get("width", "")), abs=0.2)
    assert float(second.get("x", "")) < float(first.get("x", ""))


def test_parts_of_a_whole_fill_the_bar_and_are_named() -> None:
    root = ET.fromstring(shares([("train", 3), ("test", 1)], title="t", width=400))
    wide = [float(e.get("width", "")) for e in root.iter(f"{SVG}rect") if e.get("height") == "14"]
    assert wide == [299.0, 99.0]
    assert {"train", "test", "75.0 %", "25.0 %"} <= {e.text for e in root.iter(f"{SVG}text")}


@pytest.mark.parametrize(
    "name", ["<script>alert(1)</script>", '"><svg onload=x>', "a\x00\x08b", "\ud800", "x" * 500, ""]
)
def test_hostile_names_leave_every_chart_well_formed(name: str) -> None:
    unit = axis(name, (), include=(0.0, 1.0))
    pictures = (
        plot([Series(name=name, x=[0], y=[0]), Series(name="b", x=[0], y=[0])], title=name, x=unit, y=unit),
        bars([(name, 1.0)], title=name, names=[name]),
        heatmap([name, name], [[1, 0], [0, 1]], title=name),
        shares([(name, 1)], title=name),
        spark([0, 1], [1], title=name),
        histogram([0, 1], [1], title=name, x_label=name),
    )
    for picture in pictures:
        tags = {e.tag.removeprefix(SVG) for e in ET.fromstring(picture.encode().decode()).iter()}
        assert tags <= {"svg", "title", "text", "path", "rect", "circle"}


def test_one_far_baseline_does_not_press_the_others_into_a_line() -> None:
    assert focus([0.928, 0.926, 0.915, 0.908, 0.5], 0.928) == [0.928, 0.926, 0.915, 0.908]
    assert focus([0.9, 0.5], 0.9) == [0.9, 0.5]
    assert focus([0.5, 0.5, 0.5, 0.5]) == [0.5] * 4
