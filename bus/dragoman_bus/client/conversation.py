"""One task's conversation: what arrives is put in order, silence is probed, the end is known.

Spec: spec/operations.md, streaming, keep-alive, deadlines. Everything here happens on the event
loop in callbacks; ``changed`` is how coroutines wait for it.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Callable

import msgspec

from dragoman_bus.client.courier import Courier
from dragoman_bus.client.result import error_from
from dragoman_bus.client.stream import TaskStream, Update
from dragoman_bus.protocol.a2a import TaskState
from dragoman_bus.protocol.codec import decode
from dragoman_bus.protocol.envelopes import parse_source
from dragoman_bus.protocol.errors import (
    AgentLost,
    AgentUnavailable,
    DeadlineExceeded,
    DragomanError,
    Overloaded,
    ProtocolError,
    RemoteError,
    TaskRejected,
)
from dragoman_bus.protocol.messages import (
    Envelope,
    ErrorMessage,
    TaskArtifact,
    TaskCancel,
    TaskFinal,
    TaskFlow,
    TaskSnapshot,
    TaskStatusUpdate,
    TaskSubmit,
    TaskSubscribe,
    TaskUpdate,
    task_of,
)
from dragoman_bus.protocol.payloads import (
    CancelData,
    ErrorObject,
    FlowData,
    SubmitData,
    SubscribeData,
)
from dragoman_bus.protocol.subjects import instance_subject
from dragoman_bus.tracing import current_trace
from dragoman_bus.transports.port import Delivery

__all__ = ["Conversation"]

logger = logging.getLogger("dragoman.client")

ACCEPT_SECONDS = 5.0
"""How long a first message may take (the spec gives agents one second)."""
SILENCE_GRACE_SECONDS = 1.0
UNPROMISED_SECONDS = 5.0
"""After this much silence an agent that promised nothing is probed."""
DEADLINE_GRACE_SECONDS = 0.5
"""The agent reports a missed deadline itself; the caller gives up this much later."""
MAXIMUM_PROBES = 3
RECONNECT_GRACE_SECONDS = 15.0
"""After a reconnect of this side the agent may still be on its way back, so nobody answering
proves nothing for this long (spec/nats-binding.md, reconnect)."""
DEFAULT_RETRY_SECONDS = 0.2
_KINDS: dict[str, type[RemoteError]] = {
    "OVERLOADED": Overloaded,
    "DRAINING": Overloaded,
    "AGENT_UNAVAILABLE": AgentUnavailable,
    "TASK_NOT_FOUND": AgentLost,
}
_UPDATES = (TaskFinal, TaskArtifact, TaskStatusUpdate, TaskSnapshot)


class Conversation:
    """The caller's state of one task.

    Args:
        courier: Sends and watches.
        subject: Where the task is submitted.
        data: What is submitted.
        deadline: Seconds from now.
        retries: How often a refusal for lack of capacity is tried again.
    """

    def __init__(
        self, courier: Courier, subject: str, data: SubmitData, deadline: float, retries: int
    ) -> None:
        window = data.flow_window
        context = data.context_id
        self.data = data
        self.stream = TaskStream(
            data.task_id,
            None if isinstance(context, msgspec.UnsetType) else context,
            65536 if isinstance(window, msgspec.UnsetType) else window,
        )
        self.error: DragomanError | None = None
        self.agent: str | None = None
        self.instance: str | None = None
        self.keeps_updates = True
        self._courier = courier
        self._subject = subject
        self._loop = asyncio.get_running_loop()
        self._heard = self._loop.time()
        self._deadline = self._heard + deadline
        self._retries = retries
        self._trace = current_trace()
        self._probes = 0
        self._answered = 0
        self._cancel_wanted: str | None = None
        self._asked_at = 0.0
        self._unheard = False
        self._reconnected_at = float("-inf")
        self._resend: asyncio.TimerHandle | None = None
        self._waiters: list[asyncio.Future[None]] = []
        self.on_change: Callable[[], None] = lambda: None
        self.reply_subject = courier.inbox.open(self.receive)

    @property
    def ended(self) -> bool:
        """Whether nothing more will come."""
        return self.error is not None or self.stream.fold.is_terminal

    @property
    def waits_for_reply(self) -> bool:
        """Whether the task asked something that was not answered from here yet."""
        fold = self.stream.fold
        return fold.state is TaskState.INPUT_REQUIRED and fold.sequence > self._answered

    def answered(self) -> None:
        """The question of this moment was answered; what follows it is on its way."""
        self._answered = self.stream.fold.sequence

    async def submit(self) -> None:
        """Send the submission."""
        try:
            self._courier.watch(self)
            message = self._courier.sender.wrap(
                TaskSubmit, self.data, id=self.data.task_id, trace=self._trace
            )
            await self._courier.send(self._subject, message, reply=self.reply_subject)
        except BaseException:
            self._close()
            raise

    def follow(self) -> None:
        """Begin with a task that was sent in another way: its first messages come by ``take``.

        Raises:
            LocalError: ``LIMIT_EXCEEDED`` when too many tasks are open.
        """
        try:
            self._courier.watch(self)
        except BaseException:
            self._close()
            raise

    async def changed(self) -> None:
        """Wait until an update can be read, the state is an interrupted one, or the end came."""
        waiter = self._loop.create_future()
        self._waiters.append(waiter)
        await waiter

    def read_only_result(self) -> None:
        """The caller reads no updates: fold and acknowledge them as they arrive."""
        self.keeps_updates = False
        self.stream.discard_unread()
        self.tell_read(self.stream.acknowledge())

    def tell_read(self, through: int | None) -> None:
        """Send a task.flow if it is time to."""
        if through is not None and self.instance is not None and not self.ended:
            data = FlowData(task_id=self.data.task_id, through=through)
            self._courier.send_soon(
                instance_subject(self.instance, "flow"), self._courier.sender.wrap(TaskFlow, data)
            )

    def read(self) -> Update:
        """The next unread update."""
        update, through = self.stream.read()
        self.tell_read(through)
        return update

    def cancel_soon(self, reason: str) -> None:
        """Tell the agent to stop, without waiting for it.

        Before its first message nobody knows which instance has the task; then the cancellation
        goes out as soon as that is known (spec/operations.md, cancel).
        """
        if self.instance is None:
            self._cancel_wanted = reason
        else:
            data = CancelData(task_id=self.data.task_id, reason=reason)
            self._courier.send_soon(
                instance_subject(self.instance, "cancel"),
                self._courier.sender.wrap(TaskCancel, data),
            )

    def fail(self, error: DragomanError) -> None:
        """End the conversation with an error of this side's making."""
        if not self.ended:
            error.task_id = self.data.task_id
            self.error = error
            self._close()

    def resume(self) -> None:
        """The connection came back: ask for what was missed (spec/nats-binding.md, reconnect)."""
        self._reconnected_at = self._loop.time()
        if self.instance is None:
            self._heard = self._reconnected_at
        else:
            self._ask_snapshot()

    def tick(self, now: float) -> None:
        """Give up at the deadline; probe an agent that breaks its keep-alive promise."""
        if now > self._deadline + DEADLINE_GRACE_SECONDS:
            self.cancel_soon("deadline")
            self.fail(DeadlineExceeded("the task did not end within its deadline"))
            return
        if self._resend is not None or not self._courier.transport.connected:
            return
        silent = now - self._heard
        if self.instance is None:
            if silent > ACCEPT_SECONDS:
                self.fail(self._lost(f"nothing came back within {ACCEPT_SECONDS:g} s"))
            return
        allowed = (self.stream.keep_alive or UNPROMISED_SECONDS) + SILENCE_GRACE_SECONDS
        if silent > allowed * (self._probes + 1):
            self._probe(now)
        elif self._wants_snapshot and now - self._asked_at >= SILENCE_GRACE_SECONDS:
            self._ask_snapshot()

    @property
    def _wants_snapshot(self) -> bool:
        return self.stream.missing or self._unheard

    def _probe(self, now: float) -> None:
        if self._probes >= MAXIMUM_PROBES:
            self.fail(self._lost(f"it has been silent for {now - self._heard:.1f} s"))
            return
        self._probes += 1
        self._ask_snapshot()

    def _ask_snapshot(self) -> None:
        if self.instance is None or self.ended:
            return
        self._asked_at, self._unheard = self._loop.time(), False
        data = SubscribeData(
            task_id=self.data.task_id,
            after=self.stream.sequence,
            flow_window=self.data.flow_window,
        )
        self._courier.send_soon(
            instance_subject(self.instance, "subscribe"),
            self._courier.sender.wrap(TaskSubscribe, data),
            reply=self.reply_subject,
        )

    def receive(self, delivery: Delivery) -> None:
        """Take any delivery about the task."""
        if delivery.no_responders:
            self._on_nobody()
            return
        try:
            message = decode(delivery.data)
        except ProtocolError as error:
            self._courier.invalid_messages += 1
            logger.warning("an invalid message for task %s: %s", self.data.task_id, error)
            return
        self.take(message)

    def take(self, message: Envelope) -> None:
        """Take a message about the task."""
        if isinstance(message, _UPDATES) and task_of(message) == self.data.task_id:
            self._on_update(message)
        elif isinstance(message, ErrorMessage) and message.data.task_id in (
            self.data.task_id,
            msgspec.UNSET,
        ):
            self._on_error(message)
        else:
            self._courier.invalid_messages += 1
            logger.warning("task %s: a message that does not belong to it", self.data.task_id)

    def _on_update(self, message: TaskUpdate) -> None:
        sender = parse_source(message.source)
        if self._is_foreign(sender, message.data.attempt):
            self._courier.invalid_messages += 1
            logger.warning("task %s: another instance speaks: %s", self.data.task_id, sender)
            return
        self._heard = self._loop.time()
        self._probes = 0
        is_new = sender is not None and sender != (self.agent, self.instance)
        if sender is not None and is_new:
            self.agent, self.instance = sender
            if self._cancel_wanted is not None:
                self.cancel_soon(self._cancel_wanted)
        stream = self.stream
        try:
            stream.feed(message, keep=self.keeps_updates)
        except DragomanError as error:
            self.cancel_soon("protocol violation")
            self.fail(error)
            return
        if stream.fold.is_terminal:
            self._close()
            return
        if not self.keeps_updates:
            self.tell_read(stream.acknowledge())
        if stream.missing and self._loop.time() - self._asked_at > SILENCE_GRACE_SECONDS:
            self._ask_snapshot()
        if is_new or stream.has_unread or self.waits_for_reply:
            self._wake()

    def _is_foreign(self, sender: tuple[str, str] | None, attempt: int) -> bool:
        """Whether the sender is not the one that has this attempt (spec/operations.md, submit)."""
        if self.instance is None or attempt > self.stream.fold.attempt:
            return False
        return sender != (self.agent, self.instance)

    def _on_error(self, message: ErrorMessage) -> None:
        reported = message.data.error
        self._heard = self._loop.time()
        if self._may_repeat(reported):
            self._retries -= 1
            wait = reported.retry_after_seconds
            pause = DEFAULT_RETRY_SECONDS if isinstance(wait, msgspec.UnsetType) else wait
            delay = pause * random.uniform(1.1, 1.5)
            if self._heard + delay < self._deadline:
                self._resend = self._loop.call_later(delay, self._send_again)
                return
        kind = _KINDS.get(reported.code, TaskRejected)
        self.fail(error_from(reported, kind, self.data.task_id))

    def _may_repeat(self, reported: ErrorObject) -> bool:
        """Judged by what the agent says, whatever the code (spec/errors.md, the error object)."""
        if self.instance is not None or self._retries <= 0:
            return False
        # Another version than the one refused is not spoken here (spec/versioning.md).
        if reported.code == "UNSUPPORTED_VERSION":
            return False
        return reported.retryable and reported.side_effects == "none"

    def _send_again(self) -> None:
        self._resend = None
        self._heard = self._loop.time()
        message = self._courier.sender.wrap(
            TaskSubmit, self.data, id=self.data.task_id, trace=self._trace
        )
        self._courier.send_soon(self._subject, message, reply=self.reply_subject)

    def _on_nobody(self) -> None:
        if self.instance is not None:
            if self._loop.time() - self._reconnected_at < RECONNECT_GRACE_SECONDS:
                self._probes, self._unheard = 0, True
            else:
                self.fail(self._lost("its instance has left the bus"))
        else:
            wanted = self._subject.rsplit(".", 1)[-1]
            self.fail(AgentUnavailable(f"nobody on the bus serves {wanted!r} now"))

    def _lost(self, why: str) -> AgentLost:
        who = f"agent {self.agent}" if self.agent else "the agent"
        return AgentLost(f"{who} did not finish the task: {why}", side_effects="possible")

    def _wake(self) -> None:
        waiters, self._waiters = self._waiters, []
        for waiter in waiters:
            if not waiter.done():
                waiter.set_result(None)
        self.on_change()

    def _close(self) -> None:
        if self._resend is not None:
            self._resend.cancel()
        self._courier.forget(self)
        self._courier.inbox.close(self.reply_subject)
        self._wake()
