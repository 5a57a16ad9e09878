"""Tables of tasks: an id is never cut, since it is copied; what is long gives way to it."""

from __future__ import annotations

from collections.abc import Sequence

from rich.table import Table
from rich.text import Text

from dragoman_gateways.cli.output import printable

__all__ = ["cell", "make_table"]

WHOLE = ("TASK", "STATE", "ATTEMPT", "ATTEMPTS", "SUBMITTED", "FAILED")
NUMBERS = ("ATTEMPT", "ATTEMPTS")


def make_table(headings: Sequence[str]) -> Table:
    """An empty table; columns of ``WHOLE`` keep their width on a narrow terminal."""
    table = Table(box=None, pad_edge=False, header_style="bold", padding=(0, 2, 0, 0))
    for heading in headings:
        table.add_column(
            heading,
            justify="right" if heading in NUMBERS else "left",
            no_wrap=heading in WHOLE,
        )
    return table


def cell(text: str, style: str = "") -> Text:
    """One line of a cell, cut with an ellipsis where the column is too narrow."""
    return Text(printable(text), style=style, no_wrap=True, overflow="ellipsis")
