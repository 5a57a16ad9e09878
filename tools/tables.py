"""The tables and the diagram of ``spec/`` in Markdown, from the protocol's own data."""

from __future__ import annotations

from collections.abc import Iterable

from dragoman_bus.protocol.a2a import TaskState
from dragoman_bus.protocol.error_registry import error_definitions
from dragoman_bus.protocol.lifecycle import INITIAL_STATE, TRANSITIONS, Event, is_terminal

__all__ = ["error_table", "lifecycle_section"]


def lifecycle_section() -> str:
    """The table of states and events, and the diagram."""
    return f"{_lifecycle_table()}\n\n{_lifecycle_diagram()}"


def error_table() -> str:
    """One row per error code, in the order of the registry."""
    header = ("code", "meaning", "retryable", "what to do", "A2A", "HTTP", "JSON-RPC")
    rows = (
        (
            f"`{row.code}`",
            row.meaning,
            "yes" if row.retryable else "no",
            row.action,
            row.a2a or "",
            str(row.http),
            str(row.jsonrpc),
        )
        for row in error_definitions().values()
    )
    return _table(header, rows)


def _lifecycle_table() -> str:
    events = list(Event)
    rows = ((_short(state), *(_cell(state, event) for event in events)) for state in TRANSITIONS)
    return _table(("state", *(event.value for event in events)), rows)


def _cell(state: TaskState, event: Event) -> str:
    target = TRANSITIONS[state].get(event)
    return "" if target is None else _short(target)


def _lifecycle_diagram() -> str:
    """What every open state allows alike is drawn once, from the box around them."""
    open_states = [state for state in TRANSITIONS if not is_terminal(state)]
    common = set.intersection(*(set(TRANSITIONS[state].items()) for state in open_states))
    endings = [(event, target) for event, target in common if is_terminal(target)]
    lines = ["stateDiagram-v2", "    [*] --> open", "    state open {"]
    lines.append(f"        [*] --> {_short(INITIAL_STATE)}")
    for state in open_states:
        for event, target in TRANSITIONS[state].items():
            if (event, target) not in endings:
                lines.append(f"        {_short(state)} --> {_short(target)}: {event.value}")
    lines.append("    }")
    for event, target in sorted(endings, key=lambda ending: list(Event).index(ending[0])):
        lines.append(f"    open --> {_short(target)}: {event.value}")
    lines += [f"    {_short(state)} --> [*]" for state in TRANSITIONS if is_terminal(state)]
    return "\n".join(["```mermaid", *lines, "```"])


def _short(state: TaskState) -> str:
    return state.value.removeprefix("TASK_STATE_")


def _table(header: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    titles = list(header)
    lines = [titles, ["---"] * len(titles), *(list(row) for row in rows)]
    return "\n".join(f"| {' | '.join(_escape(cell) for cell in line)} |" for line in lines)


def _escape(cell: str) -> str:
    return cell.replace("|", "\\|").replace("\n", " ")
