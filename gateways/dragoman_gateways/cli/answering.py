"""A task's question asked back on the terminal."""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys
import threading

from dragoman_gateways.cli.output import error_console
from dragoman_gateways.cli.presenting import Presenter, TextPresenter

__all__ = ["can_answer", "typed_answer"]


def can_answer(presenter: Presenter) -> bool:
    """Whether somebody is there to answer."""
    return sys.stdin.isatty() and isinstance(presenter, TextPresenter)


async def typed_answer(agent: str | None, question: str, presenter: Presenter) -> str:
    """What the user types."""
    presenter.note(f"{agent or 'the agent'} asks: {question}")
    error_console().print("[bold]> [/]", end="")
    return await _typed_line()


async def _typed_line() -> str:
    """One line from the terminal, read in a thread that does not hold up the end of the process."""
    loop = asyncio.get_running_loop()
    line: asyncio.Future[str] = loop.create_future()

    def deliver(text: str) -> None:
        if not line.done():
            line.set_result(text)

    def read() -> None:
        # Not sys.stdin: its lock, held by a waiting thread, is fatal when the interpreter ends.
        text = os.read(sys.stdin.fileno(), 65536).decode(errors="replace").rstrip("\r\n")
        with contextlib.suppress(RuntimeError):  # the loop has ended meanwhile
            loop.call_soon_threadsafe(deliver, text)

    threading.Thread(target=read, daemon=True, name="dragoman answer").start()
    return await line
