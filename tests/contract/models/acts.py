"""What a stage is told to play next: a provider's answer or failure, in nobody's wire format."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

from dragoman_agents.models import ModelErrorKind, ToolCall, Usage


@dataclass(frozen=True)
class Say:
    """A healthy answer, in these pieces when it is streamed."""

    pieces: Sequence[str] = ("Hello", " world")
    model: str | None = None
    usage: Usage | None = field(
        default_factory=lambda: Usage(input_tokens=7, output_tokens=2, source="provider")
    )
    tool_calls: Sequence[ToolCall] = ()
    cut_at_limit: bool = False


@dataclass(frozen=True)
class Refuse:
    """The model, or its filter, declines."""

    words: str = "I cannot help with that"


@dataclass(frozen=True)
class Fail:
    """The provider's documented answer for one kind of failure.

    Attributes:
        kind: Which.
        retry_after: Seconds, in the provider's own header.
        echo: Text that the message repeats, such as a key.
    """

    kind: ModelErrorKind
    retry_after: float | None = None
    echo: str = ""


@dataclass(frozen=True)
class Garble:
    """A success whose body is not what the wire format promises; ``echo`` stands in it."""

    echo: str = ""


@dataclass(frozen=True)
class CutOff:
    """A stream that ends, with its connection, after one piece and before it is complete.

    HTTP itself may notice it (``in_a_chunk``), or not.
    """

    piece: str = "Hel"
    in_a_chunk: bool = False


@dataclass(frozen=True)
class Stall:
    """Silence until the client goes away: at once, or in a stream after one piece."""

    piece: str | None = None


Act: TypeAlias = Say | Refuse | Fail | Garble | CutOff | Stall
