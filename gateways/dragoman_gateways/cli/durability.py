"""Supervision of durable tasks: by ``dragoman supervise``, and inside ``dragoman up``."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from dragoman_agents.configuration import DurableTable
from dragoman_bus.protocol.errors import NotConfigured
from dragoman_bus.supervisor import Supervisor, supervising
from dragoman_bus.transports.nats import connect_nats
from dragoman_bus.transports.port import Transport
from dragoman_gateways.cli.event_loop import run, stop_on_signals
from dragoman_gateways.cli.exit_codes import ExitCode
from dragoman_gateways.cli.lifeline import hold_lifeline
from dragoman_gateways.cli.lines import StatusLines
from dragoman_gateways.cli.settings import Settings

__all__ = ["check_replicas", "supervise", "supervised"]


def supervise(settings: Settings) -> ExitCode:
    """Supervise until a signal; see ``dragoman supervise --help``.

    Raises:
        NotConfigured: the configuration is wrong.
        BusUnavailable: no server answers, or it lacks JetStream or room for the streams.
    """
    hold_lifeline()
    return run(_supervise(settings, settings.load().durable))


async def _supervise(settings: Settings, table: DurableTable) -> ExitCode:
    lines = StatusLines(as_json=settings.json)
    with stop_on_signals() as stop:
        transport = await connect_nats(settings.server_url(), name="supervise")
        try:
            async with supervised(transport, table, lines):
                await stop.wait()
        finally:
            await transport.close()
    lines.say("durable", "ended; another supervisor acts now, if there is one", acts=False)
    return ExitCode.OK


@asynccontextmanager
async def supervised(
    transport: Transport, table: DurableTable, lines: StatusLines
) -> AsyncIterator[Supervisor]:
    """A supervisor with the limits of the configuration, which says when it acts.

    Raises:
        BusUnavailable: the server lacks JetStream or room for the streams.
    """

    def told(acts: bool) -> None:
        words = "supervises durable tasks" if acts else "waits: another supervisor acts"
        lines.say("durable", words, acts=acts)

    grace = table.cancel_grace_seconds
    async with supervising(
        transport, table.settings(), cancel_grace_seconds=grace, told=told
    ) as supervisor:
        yield supervisor


def check_replicas(table: DurableTable) -> None:
    """Refuse copies on a server that is started alone.

    Raises:
        NotConfigured: there is more than one.
    """
    if table.supervise and table.replicas > 1:
        raise NotConfigured(
            f"[durable] wants {table.replicas} replicas, and `dragoman up` starts one NATS server; "
            "name a cluster by server in [bus], or set replicas = 1"
        )
