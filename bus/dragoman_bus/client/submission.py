"""What a caller says when it submits: defaults, limits and lineage made into a message.

Spec: spec/operations.md, submit; spec/model.md, limits.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import msgspec
from msgspec import UNSET

from dragoman_bus.identifiers import new_identifier
from dragoman_bus.protocol.a2a import Message, Role
from dragoman_bus.protocol.contracts import message_for_input
from dragoman_bus.protocol.errors import InvalidInput, ProtocolError
from dragoman_bus.protocol.flow import DEFAULT_WINDOW
from dragoman_bus.protocol.payloads import Contract, Cost, Limits, Lineage, SubmitData
from dragoman_bus.protocol.subjects import (
    agent_subject,
    check_token,
    instance_subject,
    skill_subject,
)
from dragoman_bus.protocol.timestamps import format_timestamp, parse_timestamp

__all__ = ["DEFAULT_DEADLINE_SECONDS", "Submission", "check_belongs"]

DEFAULT_DEADLINE_SECONDS = 300.0
"""How long a task may take when the caller does not say."""

LONGEST_SECONDS = 1e10
"""About 300 years: what a timestamp can still name."""

DEFAULT_MAXIMUM_HOPS = 8


def check_belongs(message: Message, task_id: str, context_id: str | None) -> None:
    """Refuse an A2A message that says it belongs elsewhere, or comes from an agent.

    Raises:
        InvalidInput: see spec/model.md, task objects.
    """
    if message.role is not Role.USER:
        raise InvalidInput(f"a caller's message has the role {Role.USER.value}")
    for name, claimed, actual in (
        ("taskId", message.task_id, task_id),
        ("contextId", message.context_id, context_id or task_id),
    ):
        if claimed is not UNSET and claimed != actual:
            raise InvalidInput(f"the message has the {name} {claimed!r}, the task has {actual!r}")


class Submission(msgspec.Struct, kw_only=True):
    """All a caller may say about a task.

    ``input`` is text, any JSON value, or a whole A2A message. ``deadline`` is in seconds from
    now, and never later than the timestamp ``latest``. ``contract`` is a digest, or a ``Contract``
    against which input and output are checked. ``ordered`` (one after the other within
    ``context_id``) and ``maximum_attempts`` are for ``delivery="durable"``; ``audience`` is for
    ``Bus.scatter``.
    """

    skill: str
    input: Any
    agent: str | None = None
    instance: str | None = None
    deadline: float = DEFAULT_DEADLINE_SECONDS
    task_id: str | None = None
    context_id: str | None = None
    contract: Contract | str | None = None
    max_tokens: int | None = None
    max_cost: Cost | None = None
    latest: str | None = None
    max_hops: int = DEFAULT_MAXIMUM_HOPS
    lineage: Lineage | None = None
    flow_window: int = DEFAULT_WINDOW
    delivery: Literal["direct", "durable"] = "direct"
    class_: Literal["interactive", "batch"] | None = None
    ordered: bool = False
    maximum_attempts: int | None = None
    audience: Sequence[str] | None = None
    required_extensions: Sequence[str] | None = None

    def subject(self) -> str:
        """Where it is sent: to one instance, to an agent, or to whoever has the skill."""
        if self.instance is not None:
            return instance_subject(self.instance, "submit")
        if self.agent is not None:
            return agent_subject(self.agent)
        return skill_subject(self.skill)

    def data(self, now: float) -> SubmitData:
        """The message's data; ``now`` is Unix seconds.

        Raises:
            ProtocolError: for names that are not tokens, and for a delivery or a deadline that
                is none.
            InvalidInput: for a message of another task, context or role.
        """
        task_id = check_token(self.task_id, "task id") if self.task_id else new_identifier()
        context_id = self._context()
        message = self._message(task_id, context_id)
        contract = self.contract.digest if isinstance(self.contract, Contract) else self.contract
        return SubmitData(
            task_id=task_id,
            skill=check_token(self.skill, "skill name"),
            message=message,
            context_id=check_token(context_id, "context id") if context_id else UNSET,
            contract=contract or UNSET,
            limits=self._limits(now),
            lineage=self.lineage or UNSET,
            class_=self.class_ or UNSET,
            audience=[check_token(name, "agent name") for name in self.audience]
            if self.audience
            else UNSET,
            required_extensions=list(self.required_extensions or ()) or UNSET,
            **self._delivery(),
        )

    def _delivery(self) -> dict[str, Any]:
        """The members that only one kind of delivery has."""
        if self.delivery == "direct":
            if self.ordered or self.maximum_attempts is not None:
                raise ProtocolError("ordered and maximum_attempts need delivery='durable'")
            return {"flow_window": self.flow_window}
        if self.delivery != "durable":
            raise ProtocolError(f"delivery is 'direct' or 'durable', not {self.delivery!r}")
        return {
            "delivery": "durable",
            "agent": check_token(self.agent, "agent name") if self.agent else UNSET,
            "ordered": self.ordered or UNSET,
            "maximum_attempts": self.maximum_attempts or UNSET,
        }

    def _message(self, task_id: str, context_id: str | None) -> Message:
        if isinstance(self.input, Message):
            check_belongs(self.input, task_id, context_id)
            return self.input
        return message_for_input(f"{task_id}-input", self.input)

    def _context(self) -> str | None:
        if self.context_id is None and isinstance(self.input, Message):
            return self.input.context_id or None
        return self.context_id

    def _limits(self, now: float) -> Limits:
        return Limits(
            deadline=self._moment(now),
            max_tokens=UNSET if self.max_tokens is None else self.max_tokens,
            max_cost=self.max_cost or UNSET,
            max_hops=self.max_hops,
        )

    def _moment(self, now: float) -> str:
        """The deadline; of two that are equal to a microsecond, the one that was given."""
        if not isinstance(self.deadline, int | float) or not abs(self.deadline) < LONGEST_SECONDS:
            raise ProtocolError(f"a deadline is a number of seconds, not {self.deadline!r}")
        if self.latest is not None and now + self.deadline >= parse_timestamp(self.latest):
            return self.latest
        return format_timestamp(now + self.deadline)
