"""The pictures: every one is written, in one style, the same bytes each time, hostile names too."""

from __future__ import annotations

import itertools
import json
import math
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree

import matplotlib
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from page_builder import board, make_report, method, pomdp_policy, task_report

from automix_eval.analysis.experiments import preset
from automix_eval.analysis.experiments.cell_figures import FIGURES, CellFigure
from automix_eval.analysis.experiments.study import CellScore, Study
from automix_eval.analysis.figures import Figure, Report
from automix_eval.meta_verifiers.pomdp.router import Pomdp
from automix_eval.metrics.ibc import Undefined
from automix_eval.records.outcomes import Outcomes
from automix_eval.report.board_picture import board_pictures, place_labels
from automix_eval.report.page.board_drawings import forest, glyph
from automix_eval.report.pictures import experiment, plane, save_all
from automix_eval.report.pictures.style import COLUMN, styled
from automix_eval.report.policy_picture import policy_pictures
from automix_eval.safety.errors import AutoMixError

KEYS = ("learned", "rules", "edges", "escalate", "belief", "threshold", "summary", "next")
BOUNDS = (0.0, 0.0, 600.0, 400.0)


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """The pictures of a report on one task."""
    return save_all(make_report(), tmp_path_factory.mktemp("plots") / "new")


def test_every_picture_is_written_as_png_and_svg(written: list[Path]) -> None:
    """The plane, escalation, verifier, policy and IBC by task, each readable."""
    names = {p.stem for p in written}
    assert names == {
        "ibc_by_task", "coqa_plane", "coqa_escalation", "coqa_r1_verifier0", "coqa_r1_policy0",
    }  # fmt: skip
    assert {p.suffix for p in written} == {".png", ".svg"}
    assert len(written) == 2 * len(names)
    for path in written:
        if path.suffix == ".png":
            assert path.read_bytes().startswith(b"\x89PNG")
        else:
            assert ElementTree.parse(path).getroot().tag.endswith("svg")


def test_the_same_report_gives_the_same_bytes(written: list[Path], tmp_path: Path) -> None:
    """No clock, no version and no random name is in a picture."""
    again = save_all(make_report(), tmp_path)
    assert [p.read_bytes() for p in again] == [p.read_bytes() for p in written]


def test_the_callers_settings_are_left_alone(tmp_path: Path) -> None:
    """The style holds while the pictures are drawn, not afterwards; pyplot is not needed."""
    before = dict(matplotlib.rcParams)
    save_all(Report((), (), 0, (board(),)), tmp_path)
    assert dict(matplotlib.rcParams) == before


def test_formulas_and_paths_in_names_are_only_names(tmp_path: Path) -> None:
    """A task called like mathematics or like a path is drawn, and stays in the folder."""
    nasty = "../../$\\frac{"
    report = Report((task_report(nasty),), (), 0, (board(nasty), board(nasty)))
    paths = save_all(report, tmp_path)
    assert all(p.parent == tmp_path and p.exists() for p in paths)
    assert len(set(paths)) == len(paths)


def test_what_is_undefined_has_no_picture(tmp_path: Path) -> None:
    """A board whose only method has no figures gives no file, not an empty one."""
    none = Figure(Undefined("nobody was asked"))
    empty = method("pomdp", 0.5, 9.0, 0.1, "live", delta_ibc=none, ibc=none)
    values = {f: getattr(empty, f) for f in empty.__dataclass_fields__}
    empty = type(empty)(**{**values, "quality": none, "cost": none})
    bare = board(methods=(empty,), oracle_curve=(), comparisons=())
    assert save_all(Report((), (), 0, (bare,)), tmp_path) == []


def test_an_unwritable_folder_is_named(tmp_path: Path) -> None:
    """The error says where."""
    (tmp_path / "file").write_text("")
    with pytest.raises(AutoMixError, match="file"):
        save_all(make_report(), tmp_path / "file")


# --------------------------------------------------------------------------- what is drawn


def test_a_picture_has_one_point_a_method_and_the_ends_first() -> None:
    """SLM and LLM stand first, then the method that ran, then the replays."""
    (drawn,) = board_pictures(make_report())
    assert [m.role for m in drawn.points[:3]] == ["slm", "llm", "live"]
    assert [m.label for m in drawn.points[:2]] == ["SLM", "LLM"]
    assert {m.role for m in drawn.points[3:]} == {"replay"}
    assert [m.name for m in drawn.judged] == ["pomdp"]


def test_no_two_marks_look_alike() -> None:
    """Several runs, replays and bounds on one board differ in filling or in shape."""
    live = [method(n, 0.54, 9.0 + i, 0.1, "live") for i, n in enumerate(("pomdp", "threshold"))]
    more = [method(n, 0.6, 20.0, 0.3) for n in ("oracle", "greedy", "always_slm", "always_llm")]
    (drawn,) = board_pictures(Report((), (), 0, (board(methods=(*live, *more)),)))
    glyphs = [
        glyph(point).partition('"mark-point')[2] for point in drawn.points if point.role != "llm"
    ]
    assert len(set(glyphs)) == len(glyphs) == 5
    shapes = [(m.role == "live", m.kind) for m in drawn.points if m.role not in ("slm", "llm")]
    assert len(set(shapes)) == len(shapes)


def test_the_legend_names_every_point_and_no_name_is_at_the_frame() -> None:
    """Who reads a printed plane finds AutoMix, its curve, the SLM and the LLM in the legend."""
    (drawn,) = board_pictures(make_report())
    with styled():
        for made in (plane.plane(drawn), plane.escalation(drawn)):
            assert made is not None
            (axes,) = made.axes
            (legend,) = made.legends
            names = [t.get_text() for t in legend.get_texts()]
            lines = dict(zip(names, legend.get_lines(), strict=True))
            assert {p.label for p in drawn.points} <= set(lines)
            for point in drawn.points:
                assert (lines[point.label].get_linestyle() == "-") == bool(point.sweep("cost"))
            made.draw_without_rendering()
            assert made.get_figwidth() == COLUMN
            assert legend.get_window_extent().x1 <= made.bbox.x1
            assert legend.get_window_extent().y1 <= axes.xaxis.label.get_window_extent().y0
            for text in axes.texts:
                assert text.get_window_extent().x1 < axes.get_window_extent().x1
                assert any(text.get_text() == p.label for p in drawn.points)


def test_a_lift_beyond_the_axis_is_an_arrow_with_its_number() -> None:
    """A dot at the frame would be read as a value there."""
    wild = method("pomdp", 0.4801, 1.02, 0.001, "live", delta_ibc=Figure(22.52))
    tame = method("pomdp", 0.54, 9.0, 0.1, "live")
    made = make_report()
    for live, beyond in ((wild, True), (tame, False)):
        markup = forest(board_pictures(replace(made, boards=(board(methods=(live,)),))))
        assert ("<polygon" in markup) == beyond
        assert (">+2252%</text>" in markup) == beyond
        assert ("it lies beyond the axis" in markup) == beyond


def test_without_replays_the_ends_come_from_the_run() -> None:
    """A board without always_slm and always_llm still has its line."""
    live = method("pomdp", 0.54, 9.0, 0.1, "live")
    (drawn,) = board_pictures(Report((task_report(),), (), 0, (board(methods=(live,)),)))
    slm, llm = drawn.end("slm"), drawn.end("llm")
    assert slm is not None
    assert llm is not None
    assert (slm.at, llm.at) == ((1.0, 0.48), (50.0, 0.67))


def test_a_pomdp_policy_is_a_picture_with_a_belief() -> None:
    """Its parts tile [0, 1]; neighbouring parts of one action are one span."""
    (picture,) = policy_pictures(pomdp_policy())
    assert picture.edges[0] == 0
    assert picture.edges[-1] == 1
    assert len(picture.belief) == len(picture.actions)
    assert [picture.action(to) for to, _, _ in picture.spans] == ["keep", "escalate", "keep"]
    assert "An undefined confidence: escalate." in picture.words


def test_the_policy_of_the_router_itself_is_a_picture() -> None:
    """What the POMDP stores after a fit is read, for a chain of three tiers, calibrated or not."""
    rng = np.random.default_rng(0)
    scores = (rng.random((300, 3)) < [0.4, 0.6, 0.8]).astype(float)
    confidences = np.clip(scores * 0.4 + rng.random((300, 3)) * 0.6, 0, 1)
    confidences[:, 2] = np.nan
    outcomes = Outcomes(
        scores, np.tile([1.0, 5.0, 50.0], (300, 1)), confidences, np.ones((300, 3)),
        ("a", "b", "c"), tuple(map(str, range(300))),
    )  # fmt: skip
    learned = json.loads(json.dumps(Pomdp().fit(outcomes).get_learned()))
    pictures = policy_pictures({"learned": learned})
    assert [p.tier for p in pictures] == [0, 1]
    assert all(p.last == 2 and p.belief for p in pictures)
    assert [p.edges for p in policy_pictures({"learned": {"meta_verifier": learned}})] == [
        p.edges for p in pictures
    ]


@pytest.mark.parametrize(
    ("value", "spans"),
    [(0.5, [(1, 0, 0.5), (0, 0.5, 1)]), ("never", [(0, 0, 1)]), ("always", [(1, 0, 1)])],
)
def test_a_threshold_is_a_picture(value: object, spans: list[tuple[int, float, float]]) -> None:
    """Below t escalate, above it keep."""
    (picture,) = policy_pictures({"learned": {"rules": [{"threshold": value}]}})
    assert list(picture.spans) == spans


@given(st.recursive(
    st.none() | st.booleans() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(
        st.sampled_from(KEYS),
        inner, max_size=4,
    ),
    max_leaves=20,
))  # fmt: skip
def test_a_policy_of_any_shape_is_a_picture_or_none(value: object) -> None:
    """A policy file from elsewhere never stops the report."""
    for policy in (value, {"learned": {"rules": [value]}}):
        if isinstance(policy, dict):
            for picture in policy_pictures(policy):
                assert len(picture.actions) == len(picture.edges) - 1


def distance(box: tuple[float, float, float, float], point: tuple[float, float]) -> float:
    """From a point to the nearest point of a box."""
    x = min(max(point[0], box[0]), box[2])
    y = min(max(point[1], box[1]), box[3])
    return math.hypot(x - point[0], y - point[1])


@given(st.lists(st.tuples(st.floats(0, 600), st.floats(0, 400)), max_size=25))
def test_names_cover_neither_each_other_nor_leave_the_picture(
    points: list[tuple[float, float]],
) -> None:
    """Every placed name has room of its own, nearest to its point; one without room is left out."""
    labels = place_labels(points, [f"method {i}" for i in range(len(points))], BOUNDS, (7.0, 14.0))
    boxes = [label.box for label in labels if label]
    for label, own in zip(labels, points, strict=True):
        if label:
            distances = {p: distance(label.box, p) for p in points}
            assert distances[own] <= min(distances.values())
    for i, (left, top, right, bottom) in enumerate(boxes):
        assert left >= 0
        assert top >= 0
        assert right <= 600
        assert bottom <= 400
        for other in boxes[:i]:
            apart = other[2] <= left or right <= other[0] or other[3] <= top or bottom <= other[1]
            assert apart


def test_of_points_at_one_place_the_first_is_named() -> None:
    """A second name beside the first would lie over what is drawn there."""
    labels = place_labels(
        [(300, 200), (300, 200), (500, 200)], ["LLM", "best", "z"], BOUNDS, (7, 14)
    )
    assert [label.text if label else None for label in labels] == ["LLM", None, "z"]


def _study(name: str, part: str, ratios: int) -> Study:
    """Cells of two sources and two routers, with names as long as those of real models."""
    found = Study(next(p for p in preset.read(name).parts if p.name == part))
    sources, routers = ("one", "t" * 60), ("pomdp", "pairs")
    for source, router, place in itertools.product(sources, routers, range(ratios)):
        span = (0.0, 12.0**place)
        cell = CellFigure(10.0**place, span, 0, 0, 0, (1.0,), None, np.zeros(1), 9)
        labels = {
            "source": source, "test": source, "router": router, "verify_cost": float(place),
            "tiers": f"qwen-coder-instruct-{place} > gpt-4o-mini-of-may", "ratio": 2.0 + place,
        }  # fmt: skip
        figures = dict.fromkeys(FIGURES, cell)
        found.rows.append(CellScore(labels, figures, {"family": "same", "cost_ratio": 3.0 + place}))
    return found


@pytest.mark.parametrize(
    ("name", "part"),
    [("families", "families"), ("size_gap", "size_gap"), ("cost_sensitivity", "ratios")],
)
def test_the_picture_of_an_experiment_fits_one_column(name: str, part: str) -> None:
    """It is one column of a paper wide, no panel covers another, and no word leaves the paper."""
    study = _study(name, part, 4)
    with styled():
        made = experiment._drawing(study, study.rows, "95 % intervals, 3 seeds")
        made.draw_without_rendering()
    assert made.get_figwidth() == COLUMN
    paper = made.bbox
    boxes = [axes.get_tightbbox() for axes in made.axes]
    for box in [*boxes, *(text.get_window_extent() for text in [*made.texts, *made.legends])]:
        assert paper.x0 <= box.x0 <= box.x1 <= paper.x1
        assert paper.y0 <= box.y0 <= box.y1 <= paper.y1
    assert all(above.y0 >= below.y1 for above, below in itertools.pairwise(boxes))
