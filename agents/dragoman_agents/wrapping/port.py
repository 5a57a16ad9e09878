"""What the frameworks have in common: something that is given an input and, in time, answers.

A driver knows one framework. It says what its target takes and gives, and runs it once per task.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol, TypeAlias

from msgspec import Struct, field

from dragoman_agents.wrapping.run import Run
from dragoman_bus.protocol.payloads import ModelFacts

__all__ = ["Description", "Driver", "Options", "Reader", "SessionFactory"]

Reader: TypeAlias = Callable[[Any], Any]
"""Takes what a framework returned and gives a part of it."""

SessionFactory: TypeAlias = Callable[[str], Any]
"""Takes a conversation's id and gives the framework's own session of it."""


class Options(Struct, frozen=True, kw_only=True):
    """How a target is run; ``wrap`` says what each member means."""

    answer: Reader | None = None
    usage: Reader | None = None
    session: SessionFactory | None = None
    conversations: int = 0
    concurrency: int = 1
    run_options: Mapping[str, Any] = field(default_factory=dict)


class Description(Struct, frozen=True, kw_only=True):
    """What a target says of itself; what it does not say is ``None``.

    Attributes:
        name: Its name, as its author spells it.
        words: What it does.
        input_schema: Of its input, when that is not a text.
        output_schema: Of its answer, when that is not a text.
        text_input: The member of its input that a text fills.
        models: The models it asks.
        takes_attachments: Whether it is given the pictures and files of a task; ``None`` when it
            reads the task's message itself.
    """

    name: str | None = None
    words: str | None = None
    input_schema: Mapping[str, Any] | None = None
    output_schema: Mapping[str, Any] | None = None
    text_input: str | None = None
    models: Sequence[ModelFacts] = ()
    takes_attachments: bool | None = False


class Driver(Protocol):
    """Runs the targets of one framework."""

    def describe(self) -> Description:
        """What the target says of itself.

        Raises:
            NotConfigured: it cannot be wrapped; the message says what to do.
        """

    async def run(self, given: Any, run: Run) -> Any:
        """Run the target once and give its answer: text, or a value that the schema describes.

        Cancelling it cancels what the framework does. Whatever the framework raises comes out.

        Args:
            given: The prompt, or the input where the target has a schema of its own.
            run: The task; its pictures and files go with the prompt.
        """

    async def aclose(self) -> None:
        """Let go of what was kept; the driver may be used again."""
