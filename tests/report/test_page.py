"""The page as a file: self-contained, escaped, small, and complete without its script."""

from __future__ import annotations

import base64
import dataclasses
import hashlib
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from page_builder import board, make_records, make_report, method, task_report, write_run

from automix_eval.analysis.figures import Figure, Report
from automix_eval.analysis.gather import Settings, assemble
from automix_eval.metrics.ibc import Undefined
from automix_eval.records.runs import Run, find_runs
from automix_eval.report.page import render_html
from automix_eval.report.page.contexts import Contexts
from automix_eval.report.page.pack import CHUNK_CHARS, Packer, pack, unpack
from automix_eval.report.page.questions import SampleChunks, groups_of
from automix_eval.report.page.visible import visible
from automix_eval.report.page.words import verdict
from automix_eval.report.pictures import save_all
from automix_eval.safety.errors import AutoMixError


class Elements(HTMLParser):
    """Start tags with their attributes, and the text of each script and style."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.inner: dict[str, list[str]] = {"script": [], "style": []}
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        if self.found and self.found[-1][0] in self.inner and self.cdata_elem:
            self.inner[self.found[-1][0]].append(data)


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> list[Run]:
    """One run on two tasks, 40 questions each."""
    folder = tmp_path_factory.mktemp("run")
    write_run(folder, {t: make_records(t, 40, i) for i, t in enumerate(("coqa", "cnli"))})
    return find_runs([folder])


@pytest.fixture(scope="module")
def html(runs: list[Run]) -> str:
    """The page on them."""
    return render_html(make_report(("coqa", "cnli")), runs)


def chunks_of(html: str) -> dict[str, Any]:
    """The packed data of a page by id."""
    found = re.findall(r'<script type="application/octet-stream" id="(\w+)">([^<]*)</script>', html)
    return {name: unpack(data) for name, data in found}


def test_the_policy_allows_exactly_the_pages_own_script_and_style(html: str) -> None:
    """Both hashes are those of the inline texts, and nothing else may run or be fetched."""
    policy = re.search(r'Content-Security-Policy" content="([^"]*)"', html)
    assert policy
    text = policy[1].replace("&#39;", "'")
    elements = Elements(html)
    scripts = [a for tag, a in elements.found if tag == "script"]
    assert sum("type" not in a for a in scripts) == 1
    inline = re.search(r"<script>(.*?)</script>", html, re.DOTALL)
    style = re.search(r"<style>(.*?)</style>", html, re.DOTALL)
    assert inline
    assert style
    for kind, body in (("script", inline[1]), ("style", style[1])):
        digest = base64.b64encode(hashlib.sha256(body.encode()).digest()).decode()
        assert f"{kind}-src 'sha256-{digest}'" in text
    assert "default-src 'none'" in text
    assert "unsafe" not in text


def test_the_page_names_no_other_host_and_no_handler(html: str) -> None:
    """No address but anchors and data, no style or on... attribute, no evaluation of texts."""
    for tag, attributes in Elements(html).found:
        assert not any(name.startswith("on") or name == "style" for name in attributes), tag
        for name in ("src", "href", "action", "data"):
            assert (attributes.get(name) or "#").startswith(("#", "data:")), (tag, attributes)
    script = re.search(r"<script>(.*?)</script>", html, re.DOTALL)
    assert script
    for word in ("innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval(",
                 "new Function", "fetch(", "XMLHttpRequest", "import("):  # fmt: skip
        assert word not in script[1]


def test_figures_stand_in_the_page_without_its_script(html: str) -> None:
    """Verdicts, tables and drawings are markup, so a viewer that blocks scripts shows them."""
    static = re.sub(r"<script.*?</script>", "", html, flags=re.DOTALL)
    assert "more quality per cost than always asking the LLM" in static
    assert static.count("<svg") >= 2 * 5
    assert "0.545" in static
    assert "[0.527, 0.563]" in static


def test_no_table_shows_nan_or_inf(runs: list[Run]) -> None:
    """What is undefined is a dash with its reason below the table."""
    none = Figure(Undefined("the moon was full"))
    full = method("pomdp", 0.5, 9.0, 0.1, "live")
    empty = dataclasses.replace(full, quality=none, cost=none, delta_ibc=none)
    report = Report((), (), 0, (board(methods=(empty,), oracle_curve=(), comparisons=()),))
    text = re.sub(r"<(script|style).*?</\1>", "", render_html(report, runs), flags=re.DOTALL)
    assert "the moon was full" in text
    assert not re.search(r"\b(nan|inf)\b", text, re.IGNORECASE)


def test_an_empty_report_is_a_page() -> None:
    """Nothing to judge is said, not an error."""
    assert "There is no method to judge." in render_html(Report((), (), 0), [])


@pytest.mark.parametrize(
    ("low", "high", "kind"), [(0.1, 0.3, "more"), (-0.3, -0.1, "less"), (-0.1, 0.1, "same")]
)
def test_a_verdict_needs_an_interval_without_zero(low: float, high: float, kind: str) -> None:
    """Only an interval on one side of 0 is called more or less."""
    figure = Figure((low + high) / 2, (low, high))
    assert verdict(figure, 10).kind == kind
    assert verdict(figure, 9).kind == "same"  # as the report says: too few show nothing
    assert verdict(Figure((low + high) / 2), 10).kind == "unknown"


def test_markup_in_any_label_is_text(runs: list[Run]) -> None:
    """A task, run and policy named like markup add no element to the page."""
    nasty = '<img src=x onerror="alert(1)"></script><b>'
    report = Report(
        (task_report(nasty, {"a</script>": nasty}, label=nasty, warnings=(nasty,)),),
        (nasty,), 0, (board(nasty, why_apart=nasty),),
    )  # fmt: skip
    tags = {tag for tag, _ in Elements(render_html(report, runs)).found}
    assert "img" not in tags
    assert "&lt;img src=x onerror=" in render_html(report, runs)


def test_every_question_is_in_the_page_once(html: str, runs: list[Run]) -> None:
    """Columns, texts and details agree with the records, and a shared context is stored once."""
    data = chunks_of(html)
    columns = data["index"]["columns"]
    texts = [t for name, items in data.items() if name.startswith("t") for t in items]
    assert columns["doc"] == [*range(40), *range(40)]
    assert columns["group"] == [0] * 40 + [1] * 40
    records = [r for task in ("coqa", "cnli") for r in runs[0].records[task].read(range(40))]
    assert [t[0] for t in texts] == [r.question for r in records]
    assert columns["score"][1] == [r.tiers[1].score for r in records]
    assert columns["cost"] == [52 if r.final else 2 for r in records]
    # 40 questions about 8 documents, which both tasks share.
    assert len([c for name, items in data.items() if name.startswith("c") for c in items]) == 8
    assert columns["context"][0] == columns["context"][4]
    assert columns["context"][4] != columns["context"][5]


def test_equal_verifier_samples_are_stored_once(runs: list[Run], html: str) -> None:
    """Each text stands with how often it was drawn."""
    details = [d for n, items in chunks_of(html).items() if n.startswith("d") for d in items]
    for tiers in details:
        assert sum(times for _, times in tiers[0]["samples"]) == 8


def test_beyond_the_budget_details_are_left_out_and_marked(runs: list[Run]) -> None:
    """Questions and answers stay; what is missing is null in the index, in every group alike."""
    groups = groups_of(runs)
    chunks = {c.id: c.data for c in SampleChunks(groups, Contexts.of(tuple(runs)), budget=-1)}
    index = unpack(chunks["index"])
    assert index["columns"]["detail"] == [None] * 80
    assert index["columns"]["context"] == [None] * 80
    assert sum(len(unpack(d)) for n, d in chunks.items() if n.startswith("t")) == 80


def test_chains_of_different_length_share_the_columns(tmp_path: Path) -> None:
    """A question has as many tiers as its run; the columns of tiers it lacks are empty."""
    two = make_records("coqa", 3)
    three = [
        dataclasses.replace(
            r, tiers=(*r.tiers, dataclasses.replace(r.tiers[1], tier=2, score=0.25, on_path=False))
        )
        for r in make_records("cnli", 2)
    ]
    write_run(tmp_path / "a", {"coqa": two}, "r1")
    prices = {"name": "paper", "tiers": [1, 10, 50], "verifier": 1}
    write_run(tmp_path / "b", {"cnli": three}, "r2", ("s", "m", "l"), cost=prices)
    runs = find_runs([tmp_path])
    columns = chunks_of(render_html(make_report(), runs))["index"]["columns"]
    by_group = [columns["score"][2][columns["group"].index(g)] for g in (0, 1)]
    assert sorted(map(str, by_group)) == ["0.25", "None"]
    assert {len(c) for name in ("asked", "score", "right") for c in columns[name]} == {5}


def test_a_question_without_a_price_has_no_cost(tmp_path: Path) -> None:
    """An unknown price is null, never 0."""
    prices = {"name": "tokens", "prices": [{"prompt": 1, "generated": 1}] * 2}
    record = make_records("coqa", 1)[0]
    call = dataclasses.replace(record.tiers[0].answer.calls[0], prompt_tokens=None)
    answer = dataclasses.replace(record.tiers[0].answer, calls=(call,))
    tiers = (dataclasses.replace(record.tiers[0], answer=answer), record.tiers[1])
    write_run(tmp_path, {"coqa": [dataclasses.replace(record, tiers=tiers)]}, cost=prices)
    data = chunks_of(render_html(make_report(), find_runs([tmp_path])))
    assert data["index"]["columns"]["cost"] == [None]
    assert data["d0"][0][0]["answer"]["cost"] is None
    assert data["d0"][0][0]["answer"]["prompt"] is None


def test_a_changed_records_file_stops_the_page(tmp_path: Path) -> None:
    """Texts are read again when the page is written; another file's texts are never shown."""
    write_run(tmp_path, {"coqa": make_records("coqa", 5)})
    found = find_runs([tmp_path])
    write_run(tmp_path, {"coqa": make_records("coqa", 5)[::-1]})
    with pytest.raises(AutoMixError, match="changed"):
        render_html(make_report(), found)


def test_the_same_report_gives_the_same_page(html: str, runs: list[Run]) -> None:
    """Nothing depends on the clock or on the order of a set."""
    assert render_html(make_report(("coqa", "cnli")), runs) == html


# --------------------------------------------------------------------------- texts


@given(st.lists(st.text(max_size=300), max_size=30))
def test_packing_is_lossless(items: list[str]) -> None:
    """Whatever a text holds, the same text comes out."""
    shown = [visible(i) for i in items]
    packer = Packer("x")
    chunks = [c for item in shown for c in packer.add(item)]
    chunks += packer.flush()
    assert [item for c in chunks for item in unpack(c.data)] == shown
    assert all(re.fullmatch(r"[A-Za-z0-9+/=]*", c.data) for c in chunks)


def test_a_chunk_starts_where_the_one_before_ended() -> None:
    """The numbers of first items lead to the right chunk."""
    packer = Packer("x")
    item = "y" * (CHUNK_CHARS // 3)
    chunks = [c for _ in range(7) for c in packer.add(item)] + list(packer.flush())
    assert packer.starts == [0, 3, 6]
    assert [c.id for c in chunks] == ["x0", "x1", "x2"]
    assert unpack(pack({"a": [1, None]})) == {"a": [1, None]}


@given(st.text())
def test_no_hidden_character_is_left(text: str) -> None:
    """Controls, overrides and surrogates are shown; line ends, tabs and all visible ones stay."""
    shown = visible(text)
    shown.encode()
    assert not re.search("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]", shown)
    assert visible(shown) == shown


def test_terminal_escapes_are_shown_as_pictures() -> None:
    """An escape sequence is neither obeyed nor lost."""
    assert visible("\x1b[31mred\x07\r\nnext\rover\u202e") == (
        "\u241b[31mred\u2407\nnext\u240dover\u27e8U+202E\u27e9"
    )


def test_a_cut_text_says_how_much_is_missing() -> None:
    """A runaway generation is cut with a mark."""
    assert visible("abcdef", 4) == "abcd\n\u27e82 more characters\u27e9"


def test_a_run_gives_a_page_and_pictures(tmp_path: Path) -> None:
    """From records to the page: the figures of the report are those shown, the questions are in."""
    write_run(tmp_path / "run", {"coqa": make_records("coqa", 40)})
    made = assemble([tmp_path / "run"], Settings(resamples=200))
    text = render_html(made.report, made.runs)
    (found,) = made.report.boards
    live = next(m for m in found.methods if m.kind == "live")
    assert isinstance(live.quality.value, float)
    assert f"{live.quality.value:.3f}" in text
    assert len(chunks_of(text)["index"]["columns"]["doc"]) == 40
    assert save_all(made.report, tmp_path / "pictures")
