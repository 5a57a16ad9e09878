"""What came of asking one member: its answer or its error, and what it used."""

from __future__ import annotations

from typing import Any

from msgspec import UNSET, Struct

from dragoman_agents.ensembles.agents.members import MemberView
from dragoman_bus.client import Result
from dragoman_bus.protocol.errors import DragomanError, RemoteError
from dragoman_bus.protocol.payloads import ModelIdentity, Usage
from dragoman_bus.protocol.receipts import MemberRole

__all__ = ["Call"]


class Call(Struct, kw_only=True):
    """One member was asked, and this came of it.

    Attributes:
        member: Who.
        role: For what.
        result: What it gave, if it did.
        error: What went wrong otherwise.
        stopped: Whether it was canceled because nobody needed it any more.
        task_id, instance: Which task, and who had it.
        seconds: From asking to the end.
        usage: What it used, as far as it told.
    """

    member: MemberView
    role: MemberRole = "answer"
    result: Result | None = None
    error: DragomanError | None = None
    stopped: bool = False
    task_id: str | None = None
    instance: str | None = None
    seconds: float = 0.0
    usage: Usage | None = None

    def fail(self, error: DragomanError) -> None:
        """It ended in an error; what a result told of usage stays."""
        self.take_usage()
        self.error, self.result = error, None
        self.task_id = self.task_id or error.task_id

    def take_usage(self) -> None:
        """Note what the result, or the error, tells of usage."""
        if self.result is not None:
            self.usage = self.result.usage
        elif self.usage is None and isinstance(self.error, RemoteError):
            self.usage = self.error.task_usage

    @property
    def name(self) -> str:
        """The member's name."""
        return self.member.name

    @property
    def value(self) -> Any:
        """The answer; ``None`` without one."""
        return None if self.result is None else self.result.value

    @property
    def code(self) -> str | None:
        """The code of the error."""
        return None if self.error is None else self.error.code

    @property
    def model(self) -> ModelIdentity | None:
        """The model that answered, else the one that the member says it wraps."""
        receipt = None if self.result is None else self.result.receipt
        if receipt is not None:
            return None if receipt.model is UNSET else receipt.model or None
        return self.member.model

    @property
    def ran(self) -> bool:
        """Whether the member may have used anything."""
        if self.error is None or self.usage is not None:
            return True
        return self.stopped or self.error.side_effects != "none"
