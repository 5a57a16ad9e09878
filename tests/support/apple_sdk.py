"""A stand-in for Apple's SDK, which installs on a Mac only: the interface that the adapter uses.

What the model says, or raises, is scripted; what it was asked is remembered.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator
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
        self.answers: deque[str | Exception] = deque()
        self.asked: list[dict[str, Any]] = []
        self.available: tuple[bool, Reason | None] = (True, None)
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
                return await sdk.next(self.instructions, prompt, options)

            async def stream_response(
                self, prompt: str, *, options: Any = None
            ) -> AsyncIterator[str]:
                words = await sdk.next(self.instructions, prompt, options)
                for end in range(3, len(words) + 3, 3):
                    yield words[:end]

        self.SystemLanguageModel = SystemLanguageModel
        self.LanguageModelSession = LanguageModelSession

    async def next(self, instructions: str | None, prompt: str, options: Any) -> str:
        self.asked.append({"instructions": instructions, "prompt": prompt, "options": options})
        if not self.answers:
            try:
                await asyncio.Event().wait()
            finally:
                self.canceled.set()
        answer = self.answers.popleft()
        if isinstance(answer, Exception):
            raise answer
        return answer
