"""One error for every failure of a model: its kind says what to do, its code travels on the bus.

Spec: spec/errors.md, codes ``MODEL_*``.
"""

from __future__ import annotations

from types import MappingProxyType
from typing import Any, Literal, NamedTuple, TypeAlias, get_args

from dragoman_agents.models.port import Usage
from dragoman_bus.protocol.errors import RemoteError

__all__ = ["MODEL_ERROR_KINDS", "KindFacts", "ModelError", "ModelErrorKind"]

ModelErrorKind: TypeAlias = Literal[
    "rate_limited",
    "overloaded",
    "timeout",
    "unreachable",
    "auth",
    "quota",
    "invalid",
    "context_length",
    "refused",
    "unavailable",
    "internal",
]
"""What went wrong, whoever the provider is:

- ``rate_limited``: too many calls for this key just now
- ``overloaded``: the provider has a problem of its own just now
- ``timeout``: no answer in time; ``DEADLINE_EXCEEDED`` where the caller left too little of it
- ``unreachable``: no connection, or it broke
- ``auth``: the key is missing, wrong, or may not do this
- ``quota``: the account's money or allowance is used up
- ``invalid``: the provider refuses the request as malformed or unsupported
- ``context_length``: the request is longer than the model's context
- ``refused``: the model or the provider's filter declines to answer
- ``unavailable``: this model does not exist here, or not any more
- ``internal``: the answer cannot be understood
"""


class KindFacts(NamedTuple):
    """The error code a kind travels as, and whether the same call may succeed later."""

    code: str
    retryable: bool


MODEL_ERROR_KINDS: MappingProxyType[ModelErrorKind, KindFacts] = MappingProxyType(
    {
        "rate_limited": KindFacts("MODEL_RATE_LIMITED", True),
        "overloaded": KindFacts("MODEL_OVERLOADED", True),
        "timeout": KindFacts("MODEL_TIMEOUT", True),
        "unreachable": KindFacts("MODEL_UNREACHABLE", True),
        "auth": KindFacts("MODEL_AUTH", False),
        "quota": KindFacts("MODEL_QUOTA", False),
        "invalid": KindFacts("MODEL_INVALID", False),
        "context_length": KindFacts("MODEL_CONTEXT_LENGTH", False),
        "refused": KindFacts("MODEL_REFUSED", False),
        "unavailable": KindFacts("MODEL_UNAVAILABLE", False),
        # No code says "garbled"; a second try may well meet a healthy server.
        "internal": KindFacts("INTERNAL", True),
    }
)
"""Every kind with its facts."""

assert set(get_args(ModelErrorKind)) == set(MODEL_ERROR_KINDS)


class ModelError(RemoteError):
    """A model could not answer.

    It is part of Dragoman's tree of errors, so a skill may let it pass: the caller of the task
    sees the code, whether to retry, and after how long.

    Args:
        kind: What went wrong; it alone decides retry, failover and cooldown.
        message: One sentence, without secrets.
        retry_after: Seconds to wait before a retry, where the provider said so.
        status: The HTTP status, where there was one.
        provider: The adapter's name.
        model: The model asked.
        code: The code it travels as, where one says more than the kind's own.
        usage: What was used before it failed, where that is known.
    """

    def __init__(
        self,
        kind: ModelErrorKind,
        message: str,
        *,
        retry_after: float | None = None,
        status: int | None = None,
        provider: str | None = None,
        model: str | None = None,
        code: str | None = None,
        usage: Usage | None = None,
    ) -> None:
        facts = MODEL_ERROR_KINDS[kind]
        details: dict[str, Any] = {"kind": kind, "status": status}
        details |= {"provider": provider, "model": model}
        super().__init__(
            message,
            code=code or facts.code,
            retryable=facts.retryable,
            retry_after=retry_after,
            details={name: value for name, value in details.items() if value is not None},
        )
        self.kind = kind
        self.status = status
        self.usage = usage
