"""A replicated log decides once, also when several decisions are on their way at the same moment.

A server of a cluster compares an expectation on a pattern with what is stored, and not with what
is being replicated (spec/durable.md, streams). A server by itself would not show it.
"""

from __future__ import annotations

import asyncio
import itertools
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterator

import msgspec
import pytest
from msgspec import Raw

from dragoman_bus.client import Bus
from dragoman_bus.durable.closing import close_task
from dragoman_bus.durable.ending import Ending
from dragoman_bus.durable.layout import LOG_STREAM, QUEUE_STREAM, make_streams
from dragoman_bus.durable.store import LogStore
from dragoman_bus.identifiers import new_identifier
from dragoman_bus.protocol.a2a import TaskState
from dragoman_bus.protocol.envelopes import Sender, agent_source
from dragoman_bus.protocol.error_objects import error_object
from dragoman_bus.protocol.errors import DragomanError
from dragoman_bus.service.log_stream import Fenced, LogStream
from dragoman_bus.transports.nats import NatsOptions, NatsTransport
from dragoman_bus.transports.streams import Expectation, Record, Stored
from tests.chaos.checker import check
from tests.chaos.history import logs_of
from tests.integration.durable.conftest import SETTINGS
from tests.support.local_cluster import local_cluster

pytestmark = pytest.mark.anyio

TASKS = 30
LOST = Ending(TaskState.FAILED, error=error_object("AGENT_LOST", "nobody lived"))


async def make_replicated_streams(transport: NatsTransport) -> None:
    """Make the streams with a copy on each node, as soon as the nodes have elected a leader."""
    settings = msgspec.structs.replace(SETTINGS, replicas=3)
    async with asyncio.timeout(60):
        while True:
            try:
                await make_streams(transport.streams(), settings)
            except DragomanError:
                await asyncio.sleep(0.1)
            else:
                return


class Contest:
    """Workers and a supervisor that decide about the same tasks through connections of their own.

    Args:
        transports: Three of them.
    """

    def __init__(self, transports: list[NatsTransport]) -> None:
        self.stores = [LogStore(transport.streams()) for transport in transports]
        self.senders = [
            Sender(agent_source("worker", f"worker-{number}"), time.time, new_identifier)
            for number in range(len(transports))
        ]

    async def worker(self, place: int, task_id: str) -> LogStream:
        """A worker that has read the log of a task."""
        store = self.stores[place]
        return LogStream(await store.read(task_id), store, self.senders[place], lambda: None)

    async def hold(self, task_id: str) -> None:
        """What happens to a task: two workers and a supervisor act at the same moment."""
        first = await self.worker(0, task_id)
        await first.claim()
        second = await self.worker(1, task_id)
        supervisor, sender = self.stores[2], self.senders[2]
        wrote = asyncio.Event()
        writing = asyncio.ensure_future(self._until_fenced(first, wrote))
        await wrote.wait()
        results = await asyncio.gather(
            writing,
            second.claim(),
            close_task(supervisor, sender, task_id, lambda log: LOST),
            return_exceptions=True,
        )
        unexpected = [one for one in results if one is not None and not _expected(one)]
        assert unexpected == []

    async def _until_fenced(self, worker: LogStream, wrote: asyncio.Event) -> None:
        for number in itertools.count():
            await worker.step(f"step {number}", Raw(b"1"))
            wrote.set()


def _expected(result: object) -> bool:
    return isinstance(result, Fenced) or not isinstance(result, BaseException)


async def everything(store: LogStore, pattern: str) -> list[Stored]:
    page = await store.streams.read(LOG_STREAM, pattern, limit=10_000)
    assert not page.more
    return page.messages


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The addresses of three nodes."""
    with local_cluster(tmp_path_factory.mktemp("cluster")) as url:
        yield url


@pytest.fixture
async def transports(cluster: str) -> AsyncIterator[list[NatsTransport]]:
    """Three connections; the streams are there and empty."""
    opened = [await NatsTransport.connect(NatsOptions.from_url(cluster)) for _ in range(3)]
    try:
        await make_replicated_streams(opened[0])
        yield opened
    finally:
        for transport in opened:
            await transport.close()


async def test_what_several_decide_at_once_on_a_replicated_log_is_decided_once(
    transports: list[NatsTransport],
) -> None:
    contest = Contest(transports)
    async with Bus(transports[0]) as bus:
        submitted = [
            await bus.submit("nobody", "text", delivery="durable", deadline=120)
            for _ in range(TASKS)
        ]
        async with asyncio.timeout(60):
            await asyncio.gather(*(contest.hold(one.task_id) for one in submitted))
        stored = await everything(contest.stores[0], "dragoman.v1.evt.>")
        letters = await everything(contest.stores[0], "dragoman.v1.dlq.>")
    report = check(stored, letters, [])
    assert report.violations == []
    assert report.ends == {"FAILED": TASKS}
    kinds = Counter(entry.kind for log in logs_of(stored).values() for entry in log.entries)
    # Claimed by its worker, by whoever took it from that one, and ended.
    assert kinds["step"] >= TASKS
    assert kinds["state"] >= 3 * TASKS


async def test_a_write_that_another_one_on_its_way_decides_about_learns_the_outcome(
    transports: list[NatsTransport],
) -> None:
    streams = transports[0].streams()
    for number in range(20):
        subject = f"dragoman.v1.evt.race-{number}.state"
        record = Record(subject=subject, data=b"{}", expect=Expectation(subject, 0))
        once = Record(subject="dragoman.v1.task.race.batch", data=b"{}", identity=f"race-{number}")
        decided = await asyncio.gather(
            *(streams.append(LOG_STREAM, record) for _ in range(3)), return_exceptions=True
        )
        assert sorted(type(one).__name__ for one in decided) == ["RevisionConflict"] * 2 + ["int"]
        stored = await asyncio.gather(*(streams.append(QUEUE_STREAM, once) for _ in range(3)))
        assert len(set(stored)) == 1
