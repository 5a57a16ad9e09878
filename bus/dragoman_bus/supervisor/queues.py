"""Makes the queues of every announced skill and agent.

Spec: spec/durable.md, DUR-39. A queue stays when its agents leave: tasks may wait in it.
"""

from __future__ import annotations

import asyncio
import logging
import random

from dragoman_bus.durable.layout import (
    QUEUE_STREAM,
    DurableSettings,
    agent_queue_settings,
    skill_queue_settings,
)
from dragoman_bus.protocol.errors import DragomanError
from dragoman_bus.registry.directory import Directory
from dragoman_bus.registry.view import AgentView
from dragoman_bus.transports.port import Transport
from dragoman_bus.transports.streams import QueueSettings

__all__ = ["QueueMaker"]

logger = logging.getLogger("dragoman.supervisor")

RETRY_SECONDS = 1.0


class QueueMaker:
    """Follows the registry and makes the queues it asks for.

    Args:
        transport: The bus.
        settings: The limits of the queues.
    """

    def __init__(self, transport: Transport, settings: DurableSettings) -> None:
        self._transport = transport
        self._streams = transport.streams()
        self._settings = settings
        self._made: set[str] = set()

    async def run(self) -> None:
        """Follow for ever; cancel it to stop."""
        while True:
            directory = Directory(self._transport)
            try:
                await directory.start()
                while True:
                    await self._make(directory.agents())
                    await directory.wait_for(self._has_news)
            except DragomanError as error:
                logger.warning("queues wait: %s", error)
            finally:
                await directory.stop()
            await asyncio.sleep(RETRY_SECONDS * random.uniform(0.5, 1.0))

    def _has_news(self, views: list[AgentView]) -> bool:
        return any(queue.name not in self._made for queue in self._wanted(views))

    def _wanted(self, views: list[AgentView]) -> list[QueueSettings]:
        queues: dict[str, QueueSettings] = {}
        for view in views:
            announced = [agent_queue_settings(view.name, self._settings)]
            for skill in view.skills:
                announced += skill_queue_settings(skill, self._settings)
            queues |= {queue.name: queue for queue in announced}
        return list(queues.values())

    async def _make(self, views: list[AgentView]) -> None:
        for queue in self._wanted(views):
            if queue.name not in self._made:
                await self._streams.ensure_queue(QUEUE_STREAM, queue)
                self._made.add(queue.name)
