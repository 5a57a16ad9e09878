"""``dragoman validate``: documents and live traffic, judged by the reference validator."""

from __future__ import annotations

import asyncio
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

import msgspec
from rich.table import Table
from rich.text import Text

from dragoman_bus.client import connect
from dragoman_bus.protocol.codec import outline
from dragoman_bus.protocol.errors import NotConfigured
from dragoman_bus.validation import Violation, validate_document
from dragoman_gateways.cli.event_loop import first_of, run, stop_on_signals
from dragoman_gateways.cli.exit_codes import ExitCode
from dragoman_gateways.cli.output import console, error_console, printable, write_json
from dragoman_gateways.cli.settings import Settings
from dragoman_gateways.cli.tap import ALL_SUBJECTS, TYPE_PREFIX, tap
from dragoman_gateways.cli.words import plural

__all__ = ["Judgement", "Tally", "judge", "tally_table", "validate_files", "validate_live"]

LINES_SUFFIXES = (".jsonl", ".ndjson")
UNREADABLE = "(no type)"


class Judgement(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What the reference validator says of one document.

    Attributes:
        where: Its file or subject.
        type: Its message type, as far as it can be read.
        violations: What is wrong; empty when it is valid.
        expected: For an invalid example of the protocol, the reason it states.
    """

    where: str
    type: str
    violations: list[Violation]
    expected: str = ""

    @property
    def valid(self) -> bool:
        """Whether nothing is wrong."""
        return not self.violations


class _Example(msgspec.Struct, forbid_unknown_fields=True):
    """An invalid example of ``schemas/``: a message, and why it must be refused."""

    reason: str
    violates: dict[str, str]
    message: msgspec.Raw


def judge(where: str, data: bytes) -> Judgement:
    """Judge one message."""
    return Judgement(
        where=where, type=outline(data).type or UNREADABLE, violations=validate_document(data)
    )


def judge_file(where: str, data: bytes) -> Judgement:
    """Judge a document; of an invalid example of the protocol, the message inside."""
    try:
        example = msgspec.json.decode(data, type=_Example)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return judge(where, data)
    return msgspec.structs.replace(judge(where, bytes(example.message)), expected=example.reason)


class Tally:
    """Judgements counted by message type.

    Attributes:
        counts: How many documents of each type were judged.
        invalid: How many of them are not valid.
        missed: How many messages came faster than they could be judged, and were not.
    """

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()
        self.invalid: Counter[str] = Counter()
        self.missed = 0

    @property
    def total(self) -> int:
        """How many documents were judged."""
        return self.counts.total()

    @property
    def violations(self) -> int:
        """How many of them are invalid."""
        return self.invalid.total()

    @property
    def exit_code(self) -> ExitCode:
        """``INVALID`` when any document is."""
        return ExitCode.INVALID if self.invalid else ExitCode.OK

    def add(self, judgement: Judgement) -> None:
        """Count one."""
        self.counts[judgement.type] += 1
        if not judgement.valid:
            self.invalid[judgement.type] += 1

    def verdict(self) -> str:
        """``148 messages, 0 violations``, and how many were not judged."""
        words = f"{plural(self.total, 'message')}, {plural(self.violations, 'violation')}"
        if not self.missed:
            return words
        return f"{words}; {self.missed:,} more came too fast to be judged"


def validate_files(paths: Sequence[str], settings: Settings) -> ExitCode:
    """Judge files; ``-`` is standard input; see ``dragoman validate --help``."""
    tally = Tally()
    for path in paths:
        for where, data in _documents(path):
            judgement = judge_file(where, data)
            tally.add(judgement)
            _show(judgement, settings, quiet=False)
    if not settings.json and tally.total > 1:
        error_console().print(tally.verdict(), style="dim")
    return tally.exit_code


def validate_live(
    subjects: Sequence[str], settings: Settings, *, seconds: float | None, count: int | None
) -> ExitCode:
    """Judge what passes on the bus until Ctrl-C, ``seconds`` or ``count``."""
    tally = Tally()
    run(_live(tally, subjects or ALL_SUBJECTS, settings, seconds, count))
    if settings.json:
        write_json(
            {
                "event": "summary",
                "messages": tally.total,
                "violations": tally.violations,
                "missed": tally.missed,
                "types": dict(sorted(tally.counts.items())),
            }
        )
    else:
        console().print(tally_table(tally))
        console().print(tally.verdict(), style=f"bold {_color(tally)}")
    return tally.exit_code


def tally_table(tally: Tally) -> Table:
    """Messages and violations by type."""
    table = Table(box=None, pad_edge=False, header_style="dim", padding=(0, 2, 0, 0))
    for heading in ("TYPE", "MESSAGES", "VIOLATIONS"):
        table.add_column(heading, justify="left" if heading == "TYPE" else "right")
    for name, number in sorted(tally.counts.items()):
        wrong = tally.invalid[name]
        table.add_row(
            Text(printable(name.removeprefix(TYPE_PREFIX))),
            f"{number:,}",
            Text(str(wrong), style="bold red" if wrong else "green"),
        )
    return table


def _color(tally: Tally) -> str:
    if tally.invalid:
        return "red"
    return "yellow" if tally.missed else "green"


async def _live(
    tally: Tally,
    subjects: Sequence[str],
    settings: Settings,
    seconds: float | None,
    count: int | None,
) -> None:
    async def follow() -> None:
        async with (
            connect(settings.server_url(), name="cli") as bus,
            tap(bus.transport, subjects) as deliveries,
        ):
            if settings.json:
                write_json({"event": "listening", "subjects": subjects})
            else:
                error_console().print(
                    f"Listening on {', '.join(subjects)}; Ctrl-C ends it.", style="dim"
                )
            async for delivery in deliveries:
                judgement = judge(delivery.subject, delivery.data)
                tally.add(judgement)
                tally.missed = deliveries.missed
                _show(judgement, settings, quiet=True)
                if tally.total == count:
                    return
                # Judging takes about a millisecond: signals and the connection come between.
                await asyncio.sleep(0)

    async def follow_for() -> None:
        async with asyncio.timeout(seconds):
            await follow()

    with stop_on_signals() as stop:
        try:
            await first_of(stop, follow_for())
        except TimeoutError:
            return


def _documents(path: str) -> Iterator[tuple[str, bytes]]:
    if path == "-":
        yield "standard input", sys.stdin.buffer.read()
        return
    try:
        data = Path(path).read_bytes()
    except OSError as error:
        raise NotConfigured(f"{path} cannot be read: {error.strerror}") from None
    if not path.endswith(LINES_SUFFIXES):
        yield path, data
        return
    for number, line in enumerate(data.splitlines(), 1):
        if line.strip():
            yield f"{path}:{number}", line


def _show(judgement: Judgement, settings: Settings, *, quiet: bool) -> None:
    """Tell one judgement; a valid one only when not ``quiet``."""
    if settings.json:
        if not (quiet and judgement.valid):
            write_json({"event": "judgement", "valid": judgement.valid, "document": judgement})
        return
    if judgement.valid and quiet:
        return
    line = Text(judgement.where, style="bold")
    line.append(": valid " if judgement.valid else ": invalid ", style="green")
    if not judgement.valid:
        line.stylize("red", len(judgement.where))
    line.append(printable(judgement.type), style="not bold dim")
    console().print(line, soft_wrap=True)
    if judgement.expected:
        console().print(f"  the example says: {judgement.expected}", style="dim", markup=False)
    for violation in judgement.violations:
        console().print(_violation_line(violation), soft_wrap=True)


def _violation_line(violation: Violation) -> Text:
    line = Text("  ").append(printable(violation.path) or "(the document)", style="bold")
    line.append(f"  {printable(violation.rule)}: {printable(violation.message)}")
    if violation.section:
        line.append(f"  [{violation.section}]", style="dim")
    return line
