"""How the demo looks: calm lines, the same with and without a terminal."""

from __future__ import annotations

import textwrap
from typing import Any

from msgspec import UNSET
from rich.table import Table
from rich.text import Text

from dragoman_bus.client import Result
from dragoman_bus.registry.view import AgentView
from dragoman_gateways.cli.output import console, printable
from dragoman_gateways.cli.words import duration, model_name, short_instance, usage_words

__all__ = ["Passage", "Show"]

INDENT = "   "
WIDTH = 88


class Show:
    """Writes the demo's output.

    Args:
        pids: Process ids by instance, filled while agents start.
    """

    def __init__(self, pids: dict[str, int]) -> None:
        self._pids = pids
        self._number = 0

    def title(self) -> None:
        """The first lines."""
        console().print()
        console().print("[bold]Dragoman[/]: agents find each other and share work over NATS.")
        console().print(
            "Four agents in processes of their own, one bus between them, real texts.", style="dim"
        )

    def heading(self, text: str) -> None:
        """A part begins."""
        console().print()
        console().print(Text(text, style="bold"))

    def fact(self, name: str, text: str, *, style: str = "") -> None:
        """A line with a name before it."""
        for number, piece in enumerate(self._pieces(text, len(INDENT) + 9)):
            line = Text(f"{INDENT}{'' if number else name:<9}", style="dim")
            console().print(line.append(piece, style=f"not dim {style}".strip()))

    def agents(self, views: list[AgentView]) -> None:
        """Who is in the registry."""
        table = Table(box=None, pad_edge=False, header_style="dim", padding=(0, 3, 0, 0))
        for heading in (f"{INDENT}AGENT", "PID", "INSTANCE", "SKILLS", "MODEL"):
            table.add_column(heading, justify="right" if heading == "PID" else "left")
        for view in views:
            for lease in view.instances:
                table.add_row(
                    f"{INDENT}[bold]{view.name}[/]",
                    str(self._pids.get(lease.instance, "?")),
                    short_instance(lease.instance),
                    ", ".join(view.skills),
                    Text(", ".join(view.model_names()) or "none", style="dim"),
                )
        console().print(table)

    def act(self, skill: str, text: str) -> None:
        """A task is published."""
        self._number += 1
        console().print()
        line = Text(f"{self._number}  ", style="dim").append(skill, style="bold cyan not dim")
        console().print(line.append(f"  {text}", style="not dim"))

    def answered(self, result: Result, seconds: float, *more: str) -> None:
        """Who answered, with what, how long it took, at what price."""
        receipt = result.receipt
        if receipt is None:
            words = ["answered without a receipt"]
        else:
            pid = self._pids.get(receipt.instance, "?")
            words = [f"{receipt.agent} (instance {short_instance(receipt.instance)}, pid {pid})"]
        words += [model_name(UNSET if receipt is None else receipt.model), *more]
        words += [duration(seconds), usage_words(result.usage)]
        self._marked("✓", "green", " · ".join(word for word in words if word), "dim")

    def failed(self, text: str) -> None:
        """Something that should have worked did not."""
        self._marked("✗", "red", text, "red")

    def line(self, text: str = "", *, style: str = "") -> None:
        """A line of its own."""
        console().print(Text(printable(text), style=style), soft_wrap=True)

    def table(self, table: Any) -> None:
        """A table, indented."""
        from rich.padding import Padding

        console().print(Padding.indent(table, len(INDENT)))

    def _marked(self, mark: str, mark_style: str, text: str, style: str) -> None:
        for number, piece in enumerate(self._pieces(text, len(INDENT) + 2)):
            line = Text(f"{INDENT}{' ' if number else mark} ", style=mark_style)
            console().print(line.append(piece, style=style))

    def _pieces(self, text: str, indent: int) -> list[str]:
        """The lines of a text beside an indent, no wider than WIDTH together."""
        width = min(WIDTH, console().width) - indent
        return textwrap.wrap(printable(text), width) or [""]


class Passage:
    """Streamed text shown line by line as it comes, wrapped, and cut after some lines."""

    def __init__(self, show: Show, lines: int = 9) -> None:
        self._show = show
        self._left = lines
        self._buffer = ""
        self._hidden = 0
        self.pieces = 0

    def add(self, text: str) -> None:
        """More of it arrived."""
        self.pieces += 1
        self._buffer += text
        while "\n" in self._buffer:
            line, _, self._buffer = self._buffer.partition("\n")
            self._line(line)

    def end(self) -> None:
        """Nothing more comes."""
        if self._buffer:
            self._line(self._buffer)
        if self._hidden:
            self._show.line(f"{INDENT}│ … and {self._hidden} more lines", style="dim")

    def _line(self, line: str) -> None:
        for piece in textwrap.wrap(printable(line), WIDTH - 5):
            if self._left > 0:
                self._left -= 1
                self._show.line(f"{INDENT}│ {piece}")
            else:
                self._hidden += 1
