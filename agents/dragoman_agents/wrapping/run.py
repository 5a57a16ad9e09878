"""One task as a driver sees it: text to stream, tokens used, the model that served, questions.

Frameworks tell totals, again and again; the task is told what came since the last time.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any, TypeAlias

from msgspec import UNSET, UnsetType, structs

from dragoman_agents.context import Context
from dragoman_agents.models.errors import ModelError
from dragoman_agents.models.port import Attachment
from dragoman_agents.models.pricing import announced_cost
from dragoman_agents.models.settings import family_of
from dragoman_agents.wrapping.tokens import usage_of
from dragoman_bus.protocol.errors import LocalError
from dragoman_bus.protocol.payloads import ModelFacts, Usage

__all__ = ["Run"]

Count: TypeAlias = int | UnsetType


class Run:
    """One run of a target.

    Args:
        ctx: The task.
        streams: Whether pieces of text are for the caller.
        models: What is known of the models beforehand: who serves them, where the framework does
            not say, and what one costs, if there is only one.
        attachments: Pictures and files that stand beside the prompt.
    """

    def __init__(
        self,
        ctx: Context,
        *,
        streams: bool,
        models: Sequence[ModelFacts] = (),
        attachments: Sequence[Attachment] = (),
    ) -> None:
        self.ctx = ctx
        self.attachments = tuple(attachments)
        self.streams = streams
        self._provider = models[0].provider if models else None
        self._price = models[0].price if len(models) == 1 else UNSET
        self._message: object = None
        self._reported: Usage | None = None
        self._excess: LocalError | None = None

    @property
    def task_id(self) -> str:
        """The task's id."""
        return self.ctx.task_id

    @property
    def context_id(self) -> str:
        """The conversation that the task belongs to."""
        return self.ctx.context_id

    async def emit(self, text: str, *, message: object = None) -> None:
        """Stream a piece of text; one of another message takes back the messages before.

        An agent says things between its steps, and only its last message is the answer.
        """
        if not text or not self.streams:
            return
        if message != self._message:
            if self.ctx.has_emitted:
                self.ctx.start_over()
            self._message = message
        await self.ctx.emit(text)

    def used(self, told: Any) -> None:
        """Report what the run has used so far, in any of the forms that ``usage_of`` knows.

        It never raises, so that it can stand where something else failed; see ``check_limits``.
        """
        total = usage_of(told)
        if total is None or total == self._reported:
            return
        before, self._reported = self._reported, total
        more = total if before is None else _since(before, total)
        if not isinstance(self._price, UnsetType):
            more = structs.replace(more, cost=announced_cost(more, self._price))
        try:
            self.ctx.report_usage(more)
        except LocalError as error:
            self._excess = error

    def check_limits(self) -> None:
        """End the run when it used more than its task may.

        Raises:
            LocalError: ``LIMIT_EXCEEDED``.
        """
        if self._excess is not None:
            raise self._excess

    def check_whole(self, finish: object, *, model: object) -> None:
        """Refuse an answer whose stream broke off, which most frameworks take for a whole one.

        Args:
            finish: Why the model stopped; each provider says so at the end of its stream.
            model: Who told; a framework's own stand-ins for models tell nothing.

        Raises:
            ModelError: ``unreachable``.
        """
        if self.streams and model and not finish:
            raise ModelError("unreachable", "the stream broke off before the answer was complete")

    def served(self, model: object, provider: object = None) -> None:
        """Say which model answered; nothing is said when its name is not known."""
        if not isinstance(model, str) or not model:
            return
        who = provider if isinstance(provider, str) and provider else self._provider
        self.ctx.served_by(
            provider=(who or "unknown")[:256], family=family_of(model), model=model[:256]
        )

    async def ask(self, question: object) -> Any:
        """Put a question of the target to the caller; the reply is text or decoded data."""
        words = question if isinstance(question, str) else json.dumps(question, default=str)
        return await self.ctx.ask(words)


def _since(before: Usage, total: Usage) -> Usage:
    return Usage(
        input_tokens=_more(before.input_tokens, total.input_tokens),
        output_tokens=_more(before.output_tokens, total.output_tokens),
        cached_input_tokens=_more(before.cached_input_tokens, total.cached_input_tokens),
        reasoning_tokens=_more(before.reasoning_tokens, total.reasoning_tokens),
        calls=_more(before.calls, total.calls),
        source=total.source,
    )


def _more(before: Count, total: Count) -> Count:
    if isinstance(total, UnsetType):
        return UNSET
    return max(0, total - (0 if isinstance(before, UnsetType) else before))
