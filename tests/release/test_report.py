"""The report: whole, self-contained, safe with hostile text, silent about what is not there."""

from __future__ import annotations

import base64
import hashlib
import re
import xml.etree.ElementTree as ET
from itertools import pairwise

import pytest
from msgspec.structs import replace

from modelyard.core.contract import Column, ColumnProfile, Histogram, Kind, Role
from modelyard.core.evidence import BuildEvidence, Curve, Evaluation, ParityRow
from modelyard.core.requirement import Slice
from modelyard.release import report
from tests.release import samples
from tests.release.pages import Page
from tests.release.tables import observation

EVIL = "<script>alert(1)</script>\"'&\x00\u202e{{7*7}}"
EVERY = {"binary": samples.binary, "multiclass": samples.multiclass, "regression": samples.regression}


def rendered(build: BuildEvidence, **words: str) -> str:
    evidence = [samples.recorded(build), samples.recorded(samples.fallback(), kind="fallback")]
    return report.render(samples.release(), evidence, words.pop("spec_text", samples.SPEC), **words)


def empty_evaluation() -> Evaluation:
    return Evaluation(rows=0, observations=(), judgements=(), slices=(), fairness=(), curves=())


@pytest.mark.parametrize("task", EVERY)
def test_a_page_opens_and_closes_every_element_in_order(task: str) -> None:
    assert Page(rendered(EVERY[task]())).faults == []


@pytest.mark.parametrize("task", EVERY)
def test_a_page_asks_nothing_of_any_network(task: str) -> None:
    text = rendered(EVERY[task]())
    page = Page(text)
    assert not [a for _, a in page.elements if {"src", "srcset", "action", "style", "onclick", "data"} & set(a)]
    assert all(a["href"].startswith("#") for _, a in page.elements if "href" in a)
    assert set(re.findall(r"https?://[^\"' <)]+", text)) == {"http://www.w3.org/2000/svg"}
    assert not re.search(r"url\(|@import|@font-face", text)


def test_the_policy_allows_exactly_the_style_and_script_on_the_page() -> None:
    text = rendered(samples.binary())
    policy = next(a["content"] for a in Page(text).all("meta") if a.get("http-equiv") == "Content-Security-Policy")
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    for tag in ("style", "script"):
        [body] = re.findall(rf"<{tag}>(.*?)</{tag}>", text, re.DOTALL)
        assert base64.b64encode(hashlib.sha256(body.encode()).digest()).decode() in policy


@pytest.mark.parametrize("task", EVERY)
def test_every_picture_is_well_formed_and_says_what_it_shows(task: str) -> None:
    pictures = re.findall(r"<svg.*?</svg>", rendered(EVERY[task]()), re.DOTALL)
    assert len(pictures) > 10
    for picture in pictures:
        root = ET.fromstring(picture)
        assert root.get("role") == "img"
        assert root[0].tag.endswith("title")
        assert root[0].text


def test_links_in_the_contents_lead_to_sections_that_are_there() -> None:
    page = Page(rendered(samples.binary()))
    ids = [a["id"] for _, a in page.elements if "id" in a]
    assert len(ids) == len(set(ids))
    assert {a["href"].removeprefix("#") for a in page.all("a")} <= set(ids)


def test_column_headers_have_a_scope_and_headings_do_not_skip_a_level() -> None:
    page = Page(rendered(samples.binary()))
    assert all("scope" in a for a in page.all("th"))
    levels = [int(tag[1]) for tag, _ in page.elements if re.fullmatch("h[1-6]", tag)]
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(b <= a + 1 for a, b in pairwise(levels))


@pytest.mark.parametrize("task", EVERY)
def test_every_requirement_and_every_candidate_is_on_the_page(task: str) -> None:
    build = EVERY[task]()
    text = Page(rendered(build)).text
    for judgement in build.evaluation.judgements:
        assert judgement.requirement.metric in text
        assert judgement.reason in text
        assert judgement.observation.method in text
    for candidate in build.candidates:
        assert candidate.candidate in text


def test_the_page_tells_the_verdict_the_objective_and_the_interval_at_its_head() -> None:
    text = Page(rendered(samples.binary(), goal="Whom to invite.")).text
    head = text[: text.index("Requirements")]
    for told in (
        "income@1",
        "Whom to invite.",
        "5 of 6 requirements met",
        "0.9271",
        "0.9237 to 0.9305",
        "16,281",
        "1.94 MB",
    ):
        assert told in head


def test_hostile_names_values_and_reasons_are_shown_as_text() -> None:
    text = rendered(_hostile(), goal=EVIL, spec_text=EVIL)
    page = Page(text)
    assert page.faults == []
    assert len(page.all("script")) == 1
    assert "<script>alert" not in text
    assert "\x00" not in text
    assert "\u202e" not in text
    assert "{{7*7}}" in page.text
    assert "alert(1)" in page.text
    for picture in re.findall(r"<svg.*?</svg>", text, re.DOTALL):
        ET.fromstring(picture)


def _hostile() -> BuildEvidence:
    build = samples.binary()
    data, seen = build.prepared, build.evaluation
    column = Column(name=EVIL, kind=Kind.CATEGORY, role=Role.FEATURE, nullable=False, categories=(EVIL,), distinct=1)
    numbers = Column(name=EVIL + "2", kind=Kind.NUMBER, role=Role.FEATURE, nullable=False, minimum=0.0, maximum=1.0)
    profile = (
        ColumnProfile(column=EVIL, missing_share=0.0, distinct=1, top=((EVIL, 3),)),
        ColumnProfile(
            column=EVIL + "2", missing_share=0.0, distinct=2, histogram=Histogram(edges=(0, 1, 2), counts=(1, 2))
        ),
    )
    contract = replace(
        data.contract, columns=(*data.contract.columns, column, numbers), target=EVIL, classes=(EVIL, EVIL + "+")
    )
    where = Slice(column=EVIL, value=EVIL)
    judgement = seen.judgements[0]
    judgement = replace(
        judgement,
        reason=EVIL,
        requirement=replace(judgement.requirement, id=EVIL, slice=where),
        observation=replace(judgement.observation, method=EVIL, slice=where),
    )
    worst = ParityRow(row=1, difference=1.0, columns={EVIL: EVIL})
    assert seen.confusion is not None
    return replace(
        build,
        chosen=EVIL,
        threshold_reason=EVIL,
        budget=EVIL,
        candidates=tuple(replace(c, candidate=EVIL, reason=EVIL, params={EVIL: EVIL}) for c in build.candidates),
        trials=tuple(replace(t, candidate=EVIL, reason=EVIL) for t in build.trials),
        parity=tuple(replace(p, between=EVIL, worst=(worst,)) for p in build.parity),
        lineage=replace(build.lineage, run=EVIL, stages={EVIL: EVIL}, test_rows_seen_by=(EVIL,)),
        prepared=replace(
            data,
            contract=contract,
            profile=(*data.profile, *profile),
            sources=(EVIL,),
            notes=(EVIL,),
            split_method=EVIL,
            leaks=tuple(replace(leak, reason=EVIL, column=EVIL) for leak in data.leaks),
            quarantine_sample=tuple(replace(q, text=EVIL, reason=EVIL, file=EVIL) for q in data.quarantine_sample),
        ),
        evaluation=replace(
            seen,
            judgements=(judgement,),
            slices=tuple(replace(s, column=EVIL, value=EVIL) for s in seen.slices),
            curves=tuple(replace(c, series=EVIL + str(i)) for i, c in enumerate(seen.curves)),
            confusion=replace(seen.confusion, classes=(EVIL, EVIL)),
            importance=((EVIL, 0.5), ("plain", 0.1)),
        ),
    )


def test_the_same_evidence_gives_the_same_bytes() -> None:
    assert rendered(samples.binary()) == rendered(samples.binary())


def test_a_table_of_sixty_columns_and_long_curves_stays_under_a_megabyte() -> None:
    build = samples.binary()
    columns = tuple(
        Column(name=f"measure_{i}", kind=Kind.NUMBER, role=Role.FEATURE, nullable=True, minimum=0.0, maximum=9.0)
        for i in range(60)
    )
    histogram = Histogram(edges=tuple(float(i) for i in range(31)), counts=tuple(range(30)))
    profile = tuple(
        ColumnProfile(column=c.name, missing_share=0.01, distinct=900, histogram=histogram) for c in columns
    )
    contract = replace(build.prepared.contract, columns=(*columns, build.prepared.contract.column("income")))
    curve = tuple(i / 499 for i in range(500))
    curves = tuple(
        Curve(name=n, series=f"class {s}", x=curve, y=curve) for n in ("roc", "precision_recall") for s in range(10)
    )
    build = replace(
        build,
        prepared=replace(build.prepared, contract=contract, profile=profile),
        evaluation=replace(build.evaluation, curves=curves, importance=tuple((c.name, 0.1) for c in columns)),
    )
    assert len(rendered(build).encode()) < 1_000_000


def test_what_was_not_measured_has_no_section() -> None:
    build = samples.binary(evaluation=empty_evaluation(), candidates=(), trials=(), parity=(), threshold=None)
    page = Page(report.render(samples.release(), [samples.recorded(build)], ""))
    ids = {a["id"] for a in page.all("section")}
    assert page.faults == []
    assert ids == {"data", "lineage"}
    assert "No requirement was judged" in page.text


def test_a_release_without_a_build_on_record_still_has_a_page() -> None:
    page = Page(report.render(samples.release(), [], samples.SPEC))
    assert page.faults == []
    assert samples.release().headline in page.text


def test_odd_evidence_is_shown_and_not_stumbled_over() -> None:
    build = samples.binary()
    nothing = observation("roc_auc", None, samples=0, method="one class only")
    odd = replace(observation("recall", 0.5, 0.1), low=None)
    curves = (
        Curve(name="roc", series="", x=(), y=()),
        Curve(name="latency", series="", x=(1.0, 1.0), y=(0.0, 1.0)),
        Curve(name="calibration", series="", x=(0.5,), y=(0.5,), weight=(3.0,)),
        Curve(name="residuals", series="", x=(1e300, -1e300), y=(0.0, 0.0)),
        Curve(name="unheard_of", series="", x=(0.0, 1.0), y=(0.0, 1.0)),
    )
    evaluation = replace(
        build.evaluation,
        observations=(nothing, odd),
        judgements=tuple(replace(j, observation=nothing) for j in build.evaluation.judgements),
        fairness=(replace(nothing, group="sex"),),
        curves=curves,
        confusion=None,
        score_histogram=Histogram(edges=(0.0, 0.0), counts=(0,)),
        importance=(("a", 0.0),),
    )
    text = rendered(replace(build, evaluation=evaluation, chosen="none"))
    assert Page(text).faults == []
    assert "one class only" in text
    assert "0.50 to" not in text
    assert "unbounded to 0.60" in Page(text).text
    assert not re.search(r"\b(nan|inf|None)\b", Page(text).text + "".join(re.findall(r' d="[^"]*"', text)))


def test_a_number_never_seems_to_lie_on_the_other_side_of_its_bound() -> None:
    required = samples.requirement("roc_auc", bound=0.92)
    seen = replace(observation("roc_auc", 0.92301, 0.0), low=0.91998, high=0.92604)
    build = samples.binary()
    build = replace(build, evaluation=replace(build.evaluation, judgements=(samples.judged(required, seen),)))
    assert "0.91998 to 0.92604" in Page(rendered(build)).text


def test_a_source_is_named_without_the_folder_it_lay_in() -> None:
    build = samples.binary()
    build = replace(build, prepared=replace(build.prepared, sources=("/home/anna/secret/adult.csv",)))
    assert "adult.csv" in rendered(build)
    assert "anna" not in rendered(build)


def test_the_newest_build_is_shown_when_a_body_was_built_twice() -> None:
    older, newer = samples.binary(chosen="older_one"), samples.binary(chosen="newer_one")
    text = report.render(samples.release(), [samples.recorded(older), samples.recorded(newer)], "")
    assert "newer_one" in text
    assert "older_one" not in text


def test_a_fallback_that_did_not_answer_is_said_to_have_failed() -> None:
    evidence = [samples.recorded(samples.fallback(answered=False), kind="fallback")]
    assert "Did not answer" in report.render(samples.release(), evidence, "")


@pytest.mark.parametrize("judged", [True, False])
def test_a_requirement_that_was_not_judged_is_named_and_neither_met_nor_broken(judged: bool) -> None:
    build = samples.not_yet(samples.binary())
    build = build if judged else replace(build, evaluation=replace(build.evaluation, judgements=()))
    text = rendered(build)
    assert Page(text).faults == []
    assert "Not judged at build:" in text and "counted while a release serves" in text
    assert "Not judged at build:" not in rendered(samples.binary())
