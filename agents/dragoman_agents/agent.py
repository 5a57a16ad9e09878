"""An agent: a name, and functions served as skills.

Spec: spec/model.md. Declaring an agent does nothing on the bus; ``serve`` does.
"""

from __future__ import annotations

import inspect
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any, TypeAlias, TypeVar, overload

from msgspec import UNSET

from dragoman_agents.masking import masked_traceback
from dragoman_agents.schemas import SchemaSignature
from dragoman_agents.signature import Signature, read_signature
from dragoman_bus.client import Bus
from dragoman_bus.protocol.a2a import (
    AgentCapabilities,
    AgentCard,
    AgentInterface,
    AgentSkill,
)
from dragoman_bus.protocol.contracts import make_contract
from dragoman_bus.protocol.errors import NotConfigured
from dragoman_bus.protocol.payloads import AnnounceData, Contract, ModelFacts, ProtocolExtension
from dragoman_bus.protocol.soundness import check_sound
from dragoman_bus.protocol.subjects import agent_subject, is_token
from dragoman_bus.protocol.versions import CURRENT_VERSION, SUPPORTED_VERSIONS
from dragoman_bus.validation import validate_value
from dragoman_bus.validation.foreign import violations_of_foreign

__all__ = ["Agent", "Skill"]

NATS_BINDING = "https://dragoman.dev/bindings/nats/v1"
Function = TypeVar("Function", bound=Callable[..., Any])

StartHook: TypeAlias = Callable[[Bus], Awaitable[None]]
"""Called with the bus before an agent is announced."""

StopHook: TypeAlias = Callable[[], Awaitable[None] | None]
"""Called without arguments when an agent stops."""

logger = logging.getLogger("dragoman.agents")


class Skill:
    """One skill of an agent: the function, its card entry and its contract."""

    def __init__(
        self, card: AgentSkill, contract: Contract, signature: Signature | SchemaSignature
    ) -> None:
        self.card = card
        self.contract = contract
        self.signature = signature


MODES = ["text/plain", "application/json"]
"""What every skill takes and gives, as media types."""


class Agent:
    """A named set of skills.

    Args:
        name: 1 to 63 lower-case letters, digits, ``-`` and ``_``.
        description: What it does, for people and for models that choose.
        version: The agent's own version.
        concurrency: Tasks at once per instance.
        queue: Tasks that may wait per instance; beyond that callers are told to retry.
        models: What is said of the models it wraps.
        extensions: Extensions of the protocol it supports; without those that are ``required``
            it refuses a task (spec/versioning.md).

    Raises:
        NotConfigured: a name that cannot be used.
    """

    def __init__(
        self,
        name: str,
        *,
        description: str = "",
        version: str = "1.0.0",
        concurrency: int = 16,
        queue: int = 64,
        models: Sequence[ModelFacts] = (),
        extensions: Sequence[ProtocolExtension] = (),
    ) -> None:
        _check_name(name, "an agent's name")
        whole = isinstance(concurrency, int) and isinstance(queue, int)
        if not whole or concurrency < 1 or queue < 0:
            raise NotConfigured(
                f"agent {name}: concurrency is a whole number from 1, and queue from 0"
            )
        self.name = name
        self.description = description or name
        self.version = version
        self.concurrency = concurrency
        self.queue = queue
        self.models = list(models)
        self.extensions = list(extensions)
        self.skills: dict[str, Skill] = {}
        self._start_hooks: list[StartHook] = []
        self._stop_hooks: list[StopHook] = []
        self._serving = 0

    def on_start(self, hook: StartHook) -> StartHook:
        """Call ``hook`` with the bus each time the agent begins to be served; a decorator too.

        Hooks run in order, before the agent is announced, and may add skills; what one raises ends
        the start.
        """
        self._start_hooks.append(hook)
        return hook

    async def start(self, bus: Bus) -> None:
        """Run the start hooks."""
        for hook in self._start_hooks:
            await hook(bus)

    def on_stop(self, hook: StopHook) -> StopHook:
        """Call ``hook`` once the agent is no longer served, after its last task; a decorator too.

        Hooks are plain or async functions without parameters, called last one first. What one
        raises is logged, and the others are still called.
        """
        self._stop_hooks.append(hook)
        return hook

    @asynccontextmanager
    async def open(self) -> AsyncIterator[None]:
        """Keep what the agent uses open; at the end of the last of these, the stop hooks run."""
        self._serving += 1
        try:
            yield
        finally:
            self._serving -= 1
            if self._serving == 0:
                await self._stop()

    async def _stop(self) -> None:
        for hook in reversed(self._stop_hooks):
            try:
                waiting = hook()
                if inspect.isawaitable(waiting):
                    await waiting
            except Exception as error:  # noqa: BLE001 - the other hooks have to run
                told = masked_traceback(error)
                logger.error("agent %s: a stop hook failed\n%s", self.name, told)

    @overload
    def skill(self, function: Function) -> Function: ...

    @overload
    def skill(
        self,
        *,
        id: str | None = None,
        description: str | None = None,
        tags: Sequence[str] = (),
        text_input: str | None = None,
        examples: Sequence[str] = (),
        input_modes: Sequence[str] = (),
    ) -> Callable[[Function], Function]: ...

    def skill(self, function: Any = None, **options: Any) -> Any:
        """Serve a function as a skill: ``@agent.skill`` or ``@agent.skill(tags=[…])``.

        The id is the function's name; the description is the first line of its docstring; the
        schemas come from its signature.

        Raises:
            NotConfigured: a name or a signature that cannot be used.
        """

        def register(function: Function) -> Function:
            self.add_skill(options.pop("id", None) or function.__name__, function, **options)
            return function

        return register if function is None else register(function)

    def add_skill(
        self,
        id: str,
        function: Callable[..., Any],
        *,
        description: str | None = None,
        tags: Sequence[str] = (),
        input_schema: dict[str, Any] | None = None,
        output_schema: dict[str, Any] | None = None,
        text_input: str | None = None,
        examples: Sequence[str] = (),
        input_modes: Sequence[str] = (),
        foreign: bool = False,
    ) -> None:
        """Serve a function as a skill, with schemas given or read from its signature.

        With ``input_schema`` the function takes ``(input, ctx)``: the decoded input as one value.
        ``input_modes`` are media types that it takes beside text and JSON, as in ``image/*``.
        ``foreign`` says that another participant wrote the schemas: they are judged within bounds.

        Raises:
            NotConfigured: a name, schema or signature that cannot be used.
        """
        _check_name(id, f"agent {self.name}: a skill's id")
        if id in self.skills:
            raise NotConfigured(f"agent {self.name} has two skills named {id!r}")
        for option, given in (("tags", tags), ("examples", examples), ("input_modes", input_modes)):
            if isinstance(given, str):
                raise NotConfigured(f"skill {id}: {option} is a list: {option}=[{given!r}]")
        signature: Signature | SchemaSignature
        if input_schema is not None:
            output = {"type": "string"} if output_schema is None else output_schema
            judge = violations_of_foreign if foreign else validate_value
            signature = SchemaSignature(function, input_schema, output, text_input, judge=judge)
        else:
            signature = read_signature(function)
        contract = make_contract(
            id,
            signature.input_schema,
            signature.output_schema,
            text_input=text_input or signature.text_input,
            streaming=signature.kind == "stream" or None,
        )
        words = description or (inspect.getdoc(function) or id).splitlines()[0]
        card = AgentSkill(
            id=id,
            name=id.replace("_", " ").replace("-", " "),
            description=words,
            tags=list(tags),
            examples=list(examples) or UNSET,
            input_modes=[*MODES, *input_modes] if input_modes else UNSET,
        )
        self.skills[id] = Skill(card, contract, signature)

    def announcement(self) -> AnnounceData:
        """What the agent says of itself in the registry.

        Raises:
            NotConfigured: it has no skill, or says something that no reader would accept.
        """
        if not self.skills:
            raise NotConfigured(
                f"agent {self.name} has no skill: decorate a function with @agent.skill"
            )
        announce = AnnounceData(
            agent=self.name,
            card=self.card(),
            contracts=[skill.contract for skill in self.skills.values()],
            protocol_versions=list(SUPPORTED_VERSIONS),
            models=self.models or UNSET,
            extensions=self.extensions or UNSET,
        )
        try:
            check_sound(announce, f"what agent {self.name} says of itself")
        except ValueError as error:
            raise NotConfigured(str(error)) from None
        return announce

    def card(self) -> AgentCard:
        """The A2A AgentCard."""
        return AgentCard(
            name=self.name,
            description=self.description,
            supported_interfaces=[
                AgentInterface(
                    url=f"nats:{agent_subject(self.name)}",
                    protocol_binding=NATS_BINDING,
                    protocol_version=CURRENT_VERSION,
                )
            ],
            version=self.version,
            capabilities=AgentCapabilities(streaming=True),
            default_input_modes=MODES,
            default_output_modes=MODES,
            skills=[skill.card for skill in self.skills.values()],
        )


def _check_name(name: str, what: str) -> None:
    if not is_token(name):
        raise NotConfigured(
            f"{what} is 1 to 63 of lower-case letters, digits, - and _; {name!r} is not"
        )
