"""A stand-in for Apple's SDK, which installs on a Mac only: the interface that the adapter uses.

What the model says, or raises, is scripted; what it was asked is remembered.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from enum import Enum
from types import ModuleType
from typing import Any

ERRORS = (
    "AssetsUnavailableError",
    "ConcurrentRequestsError",
    "DecodingFailureError",
    "ExceededContextWindowSizeError",
    "GuardrailViolationError",
    "InvalidGenerationSchemaError",
    "RateLimitedError",
    "RefusalError",
    "UnsupportedGuideError",
    "UnsupportedLanguageOrLocaleError",
)


@dataclass(frozen=True)
class Pieces:
    """An answer, in these pieces when it is streamed, and after them silence if it stalls."""

    pieces: Sequence[str]
    stalls: bool = False


class Reason(Enum):
    APPLE_INTELLIGENCE_NOT_ENABLED = 1


@dataclass
class SamplingMode:
    kind: str
    seed: int | None = None

    @classmethod
    def greedy(cls) -> SamplingMode:
        return cls("greedy")

    @classmethod
    def random(cls, seed: int | None = None) -> SamplingMode:
        return cls("random", seed)


@dataclass
class GenerationOptions:
    sampling: SamplingMode | None = None
    temperature: float | None = None
    maximum_response_tokens: int | None = None


class AppleSdk(ModuleType):
    """Put it into ``sys.modules`` as ``apple_fm_sdk``."""

    def __init__(self) -> None:
        super().__init__("apple_fm_sdk")
        self.answers: deque[Pieces | Exception] = deque()
        self.asked: list[dict[str, Any]] = []
        self.available: tuple[bool, Reason | None] = (True, None)
        self.stalling = asyncio.Event()
        self.canceled = asyncio.Event()
        self.SamplingMode = SamplingMode
        self.GenerationOptions = GenerationOptions
        for name in ERRORS:
            setattr(self, name, type(name, (Exception,), {}))
        sdk = self

        class SystemLanguageModel:
            def is_available(self) -> tuple[bool, Reason | None]:
                return sdk.available

        class LanguageModelSession:
            def __init__(self, instructions: str | None = None, model: Any = None) -> None:
                self.instructions = instructions

            async def respond(self, prompt: str, *, options: Any = None) -> str:
                answer = sdk.next(self.instructions, prompt, options)
                if answer.stalls:
                    await sdk.stall()
                return "".join(answer.pieces)

            async def stream_response(
                self, prompt: str, *, options: Any = None
            ) -> AsyncIterator[str]:
                answer = sdk.next(self.instructions, prompt, options)
                for end in range(len(answer.pieces)):
                    if answer.stalls:
                        sdk.stalling.set()
                    try:
                        yield "".join(answer.pieces[: end + 1])
                    except GeneratorExit:
                        sdk.canceled.set()
                        raise
                if answer.stalls:
                    await sdk.stall()

        self.SystemLanguageModel = SystemLanguageModel
        self.LanguageModelSession = LanguageModelSession

    def next(self, instructions: str | None, prompt: str, options: Any) -> Pieces:
        self.asked.append({"instructions": instructions, "prompt": prompt, "options": options})
        answer = self.answers.popleft()
        if isinstance(answer, Exception):
            raise answer
        return answer

    async def stall(self) -> None:
        self.stalling.set()
        try:
            await asyncio.Event().wait()
        finally:
            self.canceled.set()
