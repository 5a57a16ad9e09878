"""A piece of work on a connected bus, which Ctrl-C interrupts."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from dragoman_bus.client import Bus, connect
from dragoman_gateways.cli.event_loop import first_of, run, stop_on_signals
from dragoman_gateways.cli.exit_codes import ExitCode
from dragoman_gateways.cli.settings import Settings

__all__ = ["on_bus"]


def on_bus(work: Callable[[Bus], Awaitable[ExitCode]], settings: Settings) -> ExitCode:
    """Connect, do the work, and say how it ended."""

    async def working() -> ExitCode:
        with stop_on_signals() as stop:
            async with connect(settings.server_url(), name="cli") as bus:
                code = await first_of(stop, _awaited(work(bus)))
        return ExitCode.INTERRUPTED if code is None else code

    return run(working())


async def _awaited(work: Awaitable[ExitCode]) -> ExitCode:
    return await work
