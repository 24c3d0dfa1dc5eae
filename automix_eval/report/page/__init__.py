"""The report as one self-contained HTML file.

``view`` chooses what is shown, ``page_tables``, ``board_drawings``, ``run_drawings`` and
``run_parts`` make its parts, ``questions`` and ``pack`` hold the questions, ``files`` the template,
style and script, ``render`` writes them out.
"""

from automix_eval.report.page.render import render_html, write_html

__all__ = ["render_html", "write_html"]
