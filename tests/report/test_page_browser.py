"""The page in a real browser: it opens from disk, answers, stays small, and runs nobody's code."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from browser import launch, open_page
from page_builder import make_records, make_report, write_run

from automix_eval.records.runs import find_runs
from automix_eval.report.page import write_html
from automix_eval.report.page.questions import BUDGET

pytestmark = pytest.mark.all_folds

browser = pytest.fixture(scope="module")(launch)

PAYLOAD = (
    "<script>window.pwned=1</script><img src=x onerror=\"window.pwned=1\"><svg onload='pwned=1'>"
    "</script><script>window.pwned=1</script></textarea></style><!-- ]]> &lt;b&gt; "
    "[click](javascript:window.pwned=1) **bold** {{ 7 * 7 }} ${window.pwned=1} "
    "\x1b[31mred\x1b]8;;http://example.org\x07 \u202egnp.exe \x00 "
)


@pytest.fixture(scope="module")
def write(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """Writes a page on a new run and gives its path."""

    def make(count: int, tasks: tuple[str, ...] = ("coqa", "cnli"), **options: Any) -> Path:
        folder = tmp_path_factory.mktemp("page")
        payload = options.get("payload", "")
        records = {
            t: make_records(t, count, i, payload, options.get("samples", 8))
            for i, t in enumerate(tasks)
        }
        write_run(
            folder, records, payload=payload, labels=options.get("labels", ("small", "large"))
        )
        report = make_report(options.get("report_tasks", tasks))
        path = folder / "report.html"
        with path.open("w", encoding="utf-8", newline="\n") as out:
            changed = options.get("change", lambda r: r)(report)
            write_html(changed, find_runs([folder]), out, options.get("budget", BUDGET))
        return path

    return make


@pytest.fixture(scope="module")
def path(write: Callable[..., Path]) -> Path:
    """A page on two tasks with 60 questions each."""
    return write(60)


@pytest.fixture
def opened(browser: Any, path: Path) -> Iterator[Any]:
    """That page, opened."""
    with open_page(browser, path) as page:
        yield page


def test_it_opens_from_disk_and_asks_for_nothing(opened: Any) -> None:
    """Verdicts and questions are there, nothing is complained about or requested."""
    opened.expect_count("120 of 120 questions")
    assert opened.rows().count() == 25
    assert opened.page.locator(".verdict").count() == 2
    assert opened.page.title() == "AutoMix report"


def test_a_table_sorts_by_number_both_ways(opened: Any) -> None:
    """The first click puts the largest first, the second the smallest; undefined comes last."""
    opened.page.locator(".panel:not(.away) summary", has_text="Leaderboard").click()
    table = opened.page.locator(".panel:not(.away) table.leaderboard")
    head = table.locator("th", has_text="\u0394IBC").locator("button")
    lifts = []
    for _ in range(2):
        head.click()
        keys = table.locator("tbody tr td:nth-child(5)").evaluate_all(
            "cells => cells.map(cell => cell.dataset.sort)"
        )
        assert keys[-1] == ""
        lifts.append([float(k) for k in keys[:-1]])
    assert lifts[0] == sorted(lifts[0], reverse=True)
    assert lifts[1] == sorted(lifts[1])
    assert table.locator("th[aria-sort=ascending]").count() == 1


def test_a_mark_of_the_plane_tells_its_figures(opened: Any) -> None:
    """Hovering shows the method's figures and lights its row; leaving hides them."""
    opened.page.locator(".panel:not(.away) summary", has_text="Leaderboard").click()
    mark = opened.page.locator(".panel:not(.away) .picture.wide g.live")
    mark.locator(".dot").hover()
    tip = opened.page.locator("#tip")
    assert "quality 0.545 [0.527, 0.563]" in tip.inner_text()
    assert (
        opened.page.locator(".panel:not(.away) tr.lit td.name")
        .first.inner_text()
        .startswith("pomdp")
    )
    opened.page.mouse.move(0, 0)
    assert tip.is_hidden()
    mark.focus()
    assert tip.is_visible()


def test_a_card_shows_its_task(opened: Any) -> None:
    """One panel is shown at a time, the chosen one."""
    shown = opened.page.locator(".panel:visible > h2")
    assert shown.all_inner_texts()[0].startswith("coqa")
    opened.page.get_by_role("button", name="Show cnli").click()
    assert shown.count() == 1
    assert shown.inner_text().startswith("cnli")


def test_filters_select_what_they_name(opened: Any) -> None:
    """Task, decision and rightness at each tier are columns of the list; reset brings all back."""
    form = opened.page.locator("#filters")
    form.locator("[name=group]").select_option(label="cnli")
    form.locator("[name=decision]").select_option("up")
    form.locator("[name=right0]").select_option("wrong")
    opened.expect_count(r"\d\d? of")
    found = opened.rows().count()
    assert 0 < found < 60
    for row in opened.rows().all():
        cells = row.locator("td").all_inner_texts()
        assert cells[1].startswith("cnli")
        assert cells[3].startswith("\u2717")
        assert "LLM" in cells[6]
    form.get_by_role("button", name="Reset").click()
    opened.expect_count("120 of 120 questions")


def test_the_usual_selections_are_one_click(opened: Any) -> None:
    """Rescued questions are wrong at the SLM, right at the LLM and escalated."""
    opened.page.get_by_role("button", name="Rescued by escalation").click()
    opened.expect_count(r"\d\d? of")
    cells = opened.rows().first.locator("td").all_inner_texts()
    assert cells[3].startswith("\u2717")
    assert cells[4].startswith("\u2713")


def test_text_is_searched_in_questions_and_answers(opened: Any) -> None:
    """Every word must occur, wherever the text stands; the texts are read for it."""
    word = opened.rows().first.locator(".question").inner_text()
    opened.page.keyboard.press("/")
    assert opened.page.evaluate("document.activeElement.name") == "text"
    opened.page.keyboard.type(word.upper())
    opened.expect_count("1 of")
    opened.page.locator("[name=text]").fill("nowhere-to-be-found")
    opened.page.wait_for_selector("text=No question fits these filters.")


def test_a_question_unfolds_to_everything_known_of_it(opened: Any) -> None:
    """Context folded and read when opened, answers of every tier, samples, decision and cost."""
    more = opened.open_row()
    text = more.inner_text()
    assert "2 references" in text
    assert more.locator(".tier").count() == 2
    for part in ("Confidence", "Verification", "8 calls", "Decision", "cost 50"):
        assert part in text
    assert more.locator(".context pre").count() == 0
    more.locator(".context summary").click()
    more.locator(".context pre").wait_for()
    assert len(more.locator(".context pre").inner_text()) > 1000
    samples = more.locator(".tier details")
    assert not samples.locator("pre").first.is_visible()
    samples.locator("summary").click()
    assert "Verification Decision" in samples.locator("pre").first.inner_text()


def test_what_is_left_out_is_said(browser: Any, write: Callable[..., Path]) -> None:
    """Beyond the budget a question shows its texts, and the page says what is missing and where."""
    with open_page(browser, write(3, ("coqa",), budget=-1)) as page:
        assert "of 3 questions are left out" in page.page.locator("#left-out").inner_text()
        text = page.open_row().inner_text()
        assert "left out to keep the page small" in text
        assert "2 references" in text
        assert "LLM" in text


def test_the_keyboard_walks_unfolds_and_folds(opened: Any) -> None:
    """Arrows go from question to question, Enter unfolds and folds."""
    fold = opened.rows().first.locator("button.fold")
    fold.focus()
    opened.page.keyboard.press("ArrowDown")
    opened.page.keyboard.press("Enter")
    opened.page.wait_for_selector("#questions tr.more")
    assert opened.rows().nth(1).locator("button").get_attribute("aria-expanded") == "true"
    opened.page.keyboard.press("Enter")
    opened.page.wait_for_selector("#questions tr.more", state="detached")


def test_pages_turn(opened: Any) -> None:
    """The last page holds the rest, and a page can be named."""
    opened.page.get_by_role("button", name="Last page").click()
    opened.expect("#questions tr.item").to_have_count(20)
    opened.page.locator("#page").fill("2")
    opened.page.locator("#page").press("Enter")
    opened.expect("#questions tr.item").to_have_count(25)
    assert "coqa 25" in opened.rows().first.inner_text()


def test_light_and_dark_follow_the_system_and_the_button(browser: Any, path: Path) -> None:
    """The ground is dark under a dark system and light again when the button says so."""
    ground = "getComputedStyle(document.body).backgroundColor"
    with open_page(browser, path, color_scheme="dark") as page:
        dark = page.page.evaluate(ground)
        page.page.locator("#theme").click()
        assert page.page.evaluate(ground) == "rgb(255, 255, 255)" != dark


def test_it_fits_a_narrow_screen(browser: Any, path: Path) -> None:
    """Nothing scrolls sideways, no unfolded table either."""
    wide = "[...document.querySelectorAll('.scroll')].filter(e => e.scrollWidth > e.clientWidth)"
    with open_page(browser, path, viewport={"width": 390, "height": 800}) as page:
        page.page.evaluate("document.querySelectorAll('details').forEach(d => { d.open = true })")
        assert page.page.evaluate("document.documentElement.scrollWidth") <= 390
        assert page.page.evaluate(f"{wide}.length") == 0


def test_printing_shows_every_task(browser: Any, path: Path) -> None:
    """On paper all panels stand, unfolded, and the controls do not."""
    with open_page(browser, path) as page:
        page.page.emulate_media(media="print")
        page.page.evaluate("dispatchEvent(new Event('beforeprint'))")
        assert page.page.locator(".panel:visible").count() == 2
        assert page.page.locator(".panel table.leaderboard:visible").count() == 2
        assert page.page.locator("#filters").is_hidden()
        assert page.page.locator(".raw:visible").count() == 0  # pages of a policy's numbers


def poison(value: Any) -> Any:
    """The payload before every text of nested dataclasses, except the names of kinds."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        fields = {f.name: getattr(value, f.name) for f in dataclasses.fields(value)}
        kept = {"kind", "run_id", "runs"}
        return type(value)(**{k: v if k in kept else poison(v) for k, v in fields.items()})
    if isinstance(value, str):
        return PAYLOAD + value
    if isinstance(value, tuple):
        return tuple(poison(v) for v in value)
    if isinstance(value, dict):
        return {poison(k): poison(v) for k, v in value.items()}
    return value


def test_no_text_of_a_model_is_ever_run(browser: Any, write: Callable[..., Path]) -> None:
    """With hostile texts in every field no element of theirs exists and all is shown as text."""
    names = ("coqa", f"{PAYLOAD}cnli")
    path = write(30, names, report_tasks=("coqa", "cnli"), payload=PAYLOAD, change=poison,
                 labels=(f"{PAYLOAD}s", f"{PAYLOAD}l"))  # fmt: skip
    with open_page(browser, path) as page:
        for row in (0, 29):
            page.page.locator("#size").select_option("100")
            page.expect("tr.item").to_have_count(60)
            more = page.open_row(row)
            for summary in more.locator("summary").all():
                summary.click()
            page.page.wait_for_timeout(100)
            shown = more.inner_text()
            assert "<script>window.pwned=1</script>" in shown
            assert "\u241b[31mred" in shown
            assert "\u27e8U+202E\u27e9gnp.exe \u2400" in shown
            page.rows().nth(row).locator("button.fold").click()
            page.page.wait_for_selector("#questions tr.more", state="detached")
        for mark in page.page.locator(".panel:visible g.live[data-tip]").all():
            mark.focus()
        page.page.locator("[name=text]").fill("<img src=x")
        page.expect_count("60 of")
        assert page.page.evaluate("window.pwned") is None
        assert page.page.locator("img, iframe, object, embed, b, a[href^=javascript]").count() == 0
        text = page.page.locator("main").inner_text()
        assert "{{ 7 * 7 }}" in text
        assert not set("\x1b\x07\x00\u202e") & set(page.page.content())


@pytest.mark.parametrize(
    ("code", "directive"),
    [
        ("eval('window.pwned = 1')", "require-trusted-types-for"),
        (
            "document.body.append(document.createElement('iframe')); frames[0].location = 'http://localhost:9/'",
            "frame-src",
        ),
        ("document.body.innerHTML = '<p>'", "require-trusted-types-for"),
        ("fetch('http://localhost:9/')", "connect-src"),
        (
            "document.body.append(Object.assign(new Image(), {src: 'http://localhost:9/'}))",
            "img-src",
        ),
    ],
)
def test_the_browser_enforces_the_policy(
    browser: Any, path: Path, code: str, directive: str
) -> None:
    """Even a script that got into the page could run no text and reach no host."""
    with open_page(browser, path) as page:
        blocked = page.page.evaluate(
            "() => new Promise((done) => {"
            "addEventListener('securitypolicyviolation', (e) => done(e.effectiveDirective));"
            f"setTimeout(() => {{ {code} }}); }})"
        )
        assert blocked == directive
        assert page.page.evaluate("window.pwned") is None
        page.page.wait_for_timeout(50)
        # What was blocked was complained about, and a blocked request is listed as one.
        page.complaints.clear()
        del page.requests[1:]


@pytest.mark.slow
def test_twenty_thousand_questions_are_small_and_quick(
    browser: Any, write: Callable[..., Path]
) -> None:
    """Under 25 MB, painted within two seconds, and searched to the last question."""
    path = write(4000, ("coqa", "cnli", "qasper", "quality", "narrativeqa"))
    assert path.stat().st_size < 25_000_000
    with open_page(browser, path) as page:
        paint = page.page.evaluate(
            "performance.getEntriesByName('first-contentful-paint')[0].startTime"
        )
        assert paint < 2000
        page.expect_count("20,000 of 20,000 questions")
        page.page.get_by_role("button", name="Last page").click()
        page.expect("#questions").to_contain_text("narrativeqa 3999")
