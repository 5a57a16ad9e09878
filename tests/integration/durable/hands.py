"""A worker moved by hand: it takes one message and does nothing that a test does not do."""

from __future__ import annotations

import asyncio
import time

from dragoman_bus.durable import DurableSettings, LogStore
from dragoman_bus.durable.layout import QUEUE_STREAM, skill_queue, skill_queue_settings
from dragoman_bus.identifiers import new_identifier
from dragoman_bus.protocol.codec import decode
from dragoman_bus.protocol.envelopes import Sender, agent_source
from dragoman_bus.protocol.messages import TaskSubmit
from dragoman_bus.protocol.tasklog import LogFold
from dragoman_bus.service.log_stream import LogStream
from dragoman_bus.transports.port import Transport
from dragoman_bus.transports.streams import Pulled, Puller

__all__ = ["Hands"]


class Hands:
    """One worker of a skill's interactive queue.

    Args:
        transport: Its connection.
        name: Which instance it says it is.
    """

    def __init__(self, transport: Transport, name: str = "hands-1") -> None:
        self.lost = asyncio.Event()
        self.transport = transport
        self._streams = transport.streams()
        self.store = LogStore(self._streams)
        self.sender = Sender(agent_source("hands", name), time.time, new_identifier)
        self._puller: Puller | None = None

    async def take(self, skill: str, settings: DurableSettings) -> Pulled:
        """The next message of the queue, which is made when nobody announced the skill."""
        for queue in skill_queue_settings(skill, settings):
            await self._streams.ensure_queue(QUEUE_STREAM, queue)
        arrived: asyncio.Queue[Pulled] = asyncio.Queue()
        name = skill_queue(skill, "interactive")
        self._puller = await self._streams.puller(QUEUE_STREAM, name, arrived.put_nowait)
        self._puller.want(1)
        pulled = await arrived.get()
        await self._puller.close()
        return pulled

    def begin(self, pulled: Pulled) -> LogStream:
        """The log of a task that was delivered for the first time."""
        submission = decode(pulled.data)
        assert isinstance(submission, TaskSubmit)
        log = LogFold(submission.data.task_id)
        log.begin(submission)
        return LogStream(log, self.store, self.sender, self.lost.set)

    async def resume(self, task_id: str) -> LogStream:
        """The log of a task that somebody else had before."""
        log = await self.store.read(task_id)
        return LogStream(log, self.store, self.sender, self.lost.set)
