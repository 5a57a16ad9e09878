"""Asks whoever holds a durable task whether it still runs it.

Spec: spec/durable.md, DUR-86. A queue may have a task twice, and a worker that was taken for dead
may be back; a task must not be taken from a worker that does it.
"""

from __future__ import annotations

from dragoman_bus.protocol.codec import decode, encode
from dragoman_bus.protocol.envelopes import Sender, parse_source
from dragoman_bus.protocol.errors import ProtocolError, TransportError
from dragoman_bus.protocol.messages import ErrorMessage, TaskGet
from dragoman_bus.protocol.payloads import GetData
from dragoman_bus.protocol.subjects import instance_subject
from dragoman_bus.protocol.tasklog import LogFold
from dragoman_bus.transports.port import Transport

__all__ = ["is_at_work"]

ANSWER_SECONDS = 1.0


async def is_at_work(transport: Transport, sender: Sender, log: LogFold) -> bool:
    """Whether the instance that has claimed the task says that it knows it."""
    holder = parse_source(log.worker)
    if holder is None:
        return False
    question = encode(sender.wrap(TaskGet, GetData(task_id=log.task_id)))
    try:
        answer = await transport.request(
            instance_subject(holder[1], "get"), question, timeout=ANSWER_SECONDS
        )
        message = decode(answer.data)
    except (TransportError, ProtocolError):
        return False
    return not (isinstance(message, ErrorMessage) and message.data.error.code == "TASK_NOT_FOUND")
