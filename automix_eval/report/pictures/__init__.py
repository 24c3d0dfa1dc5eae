"""The report's pictures for papers and slides, as PNG and SVG; all in one style.

``style`` is that style, ``plane`` draws what compares methods, ``diagrams`` what explains one.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from automix_eval.analysis.figures import Report
from automix_eval.report.board_picture import BoardPicture, board_pictures, tier_name
from automix_eval.report.pictures import diagrams, plane
from automix_eval.report.pictures.style import save, styled
from automix_eval.report.policy_picture import policy_pictures
from automix_eval.safety.errors import AutoMixError
from automix_eval.safety.files import safe_name

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def save_all(report: Report, folder: Path) -> list[Path]:
    """Write all pictures of a report.

    Files, each as ``.png`` and ``.svg``: ``ibc_by_task``; for each board ``<board>_plane`` and
    ``<board>_escalation``; for each run on it ``<board>_<run>_verifier<tier>`` and
    ``<board>_<run>_policy<tier>``. What has no figures has no picture.

    Args:
        report: The figures.
        folder: Where to write; made if missing.

    Returns:
        The files written, in a fixed order.

    Raises:
        AutoMixError: A file cannot be written.
    """
    paths: list[Path] = []
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with styled():
            for name, made in pictures_of(report):
                paths += save(made, folder, name)
    except OSError as err:
        raise AutoMixError(f"cannot write the pictures into {folder}: {err}") from err
    return paths


def pictures_of(report: Report) -> Iterator[tuple[str, Figure]]:
    """Name and figure of every picture, each drawn when it is reached; within :func:`styled`."""
    all_drawn = board_pictures(report)
    first = [("ibc_by_task", plane.by_task(all_drawn))]
    yield from ((name, made) for name, made in first if made is not None)
    taken: set[str] = set()
    for number, drawn in enumerate(all_drawn):
        board = safe_name(drawn.board.key)
        # Two keys may differ in nothing but what no file name may hold.
        board = f"{board}_{number}" if board in taken else board
        taken.add(board)
        for name, made in _board_pictures(drawn):
            if made is not None:
                yield f"{board}_{name}", made


def _board_pictures(drawn: BoardPicture) -> Iterator[tuple[str, Figure | None]]:
    yield "plane", plane.plane(drawn)
    yield "escalation", plane.escalation(drawn)
    for task in drawn.tasks:
        run = safe_name(task.run_id)
        for figures in task.figures.verifiers:
            name = tier_name(figures.tier, len(task.tiers))
            title = f"{drawn.board.task}: verifier on the {name}"
            yield f"{run}_verifier{figures.tier}", diagrams.verifier(figures, title)
        for picture in policy_pictures(task.policy):
            title = f"{drawn.board.task}: {task.meta_verifier}"
            yield f"{run}_policy{picture.tier}", diagrams.policy(picture, title)
