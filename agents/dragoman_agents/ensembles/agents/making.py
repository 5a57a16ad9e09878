"""Makes an ensemble from the options of its constructor: the same as those of a file."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypedDict, TypeVar

import msgspec

from dragoman_agents.agent import Agent
from dragoman_agents.configuration.ensembles import SharedTable
from dragoman_agents.ensembles.agents.base import Ensemble
from dragoman_bus.protocol.errors import NotConfigured
from dragoman_bus.protocol.payloads import Contract

__all__ = ["AgentOptions", "make"]

Table = TypeVar("Table", bound=SharedTable)


class AgentOptions(TypedDict, total=False):
    """What is said of the agent itself, whatever its kind.

    Attributes:
        description: For people and for models that choose among agents.
        version: The agent's own version.
        concurrency: Tasks at once.
        contract: Of its skill; absent: that of its members, for which it waits when it starts.
    """

    description: str
    version: str
    concurrency: int
    contract: Contract


def make(
    kind: type[Ensemble[Any]],
    table: type[Table],
    name: str,
    options: dict[str, Any],
    *,
    agreement: Any = None,
    **extra: Any,
) -> Agent:
    """An ensemble from the options of its constructor, judged as those of a file are.

    Raises:
        NotConfigured: naming the option, and what is wrong with it.
    """
    about = {key: options.pop(key) for key in AgentOptions.__annotations__ if key in options}
    given = dict(options)
    for key in ("members", "checkers", "judges"):
        if key in given:
            given[key] = [
                msgspec.to_builtins(one) if isinstance(one, msgspec.Struct) else one
                for one in given[key]
            ]
    if isinstance(agreement, str | Mapping):
        given["agreement"] = agreement
    elif agreement is not None:
        extra["agreement"] = agreement
    try:
        made = msgspec.convert({"kind": table.__struct_config__.tag, **given}, table)
    except msgspec.ValidationError as error:
        raise NotConfigured(f"ensemble {name}: {error}") from None
    return kind(name, made, **about, **extra).agent
