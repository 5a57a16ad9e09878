"""The tables of the configuration file as types; whatever is not written here is refused."""

from __future__ import annotations

from collections.abc import Mapping
from graphlib import CycleError, TopologicalSorter
from typing import Annotated, Any

from jsonschema import Draft202012Validator, SchemaError
from msgspec import Meta, Struct, field

from dragoman_agents.configuration.agreements import Text, Token
from dragoman_agents.configuration.durability import DurableTable
from dragoman_agents.configuration.ensembles import EnsembleTable
from dragoman_agents.models.settings import ListedPrice, ModelSettings
from dragoman_agents.prompts import placeholders

__all__ = [
    "DEFAULT_INPUT",
    "DEFAULT_OUTPUT",
    "AgentDeclaration",
    "BusSettings",
    "Configuration",
    "SkillDeclaration",
]

Count = Annotated[int, Meta(ge=1, le=65536)]

DEFAULT_INPUT: Mapping[str, Any] = {
    "type": "object",
    "properties": {"text": {"type": "string"}},
    "required": ["text"],
    "additionalProperties": False,
}
"""What a declared skill takes when it does not say: text."""

DEFAULT_OUTPUT: Mapping[str, Any] = {"type": "string"}
"""What a declared skill gives when it does not say: text, streamed."""


class BusSettings(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The table ``[bus]``: a server that runs elsewhere, or one that Dragoman starts.

    Attributes:
        server: Address of a running NATS server. Absent: Dragoman starts its own.
        embedded: Whether Dragoman starts a server; default: when no ``server`` is given.
        port: Where the server that Dragoman starts listens, on 127.0.0.1; 0 is any free port.
        data_directory: Where it keeps its data; absent: the command decides.
        sync_interval_seconds: How soon what it stored is safe from a power cut; 0 is at once.
    """

    server: Text | None = None
    embedded: bool | None = None
    port: Annotated[int, Meta(ge=0, le=65535)] = 4222
    data_directory: Text | None = None
    sync_interval_seconds: Annotated[float, Meta(ge=0, le=3600)] = 120

    def __post_init__(self) -> None:
        if self.server is not None and self.embedded:
            raise ValueError("give server, or embedded = true, not both")

    @property
    def starts_server(self) -> bool:
        """Whether Dragoman starts a server of its own."""
        return self.server is None and self.embedded is not False

    @property
    def url(self) -> str:
        """Where to connect: ``server``, or the port of this machine."""
        return self.server or f"nats://127.0.0.1:{self.port}"


class SkillDeclaration(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A table ``[[agents.skills]]``: one skill of an agent that has no code.

    Attributes:
        id: The skill's id.
        description: What it does, for people and for models that choose among skills.
        tags: For discovery.
        prompt: What the model is sent; ``{{name}}`` stands for that member of the input.
        input: JSON Schema of the input, an object; default: one text named ``text``.
        output: JSON Schema of the output; default: text. With it the model must answer JSON.
        text_input: The member that plain text fills; default: ``text`` where the input has it.
    """

    id: Token
    description: Text
    tags: tuple[Text, ...] = ()
    prompt: Text | None = None
    input: dict[str, Any] | None = None
    output: dict[str, Any] | None = None
    text_input: Text | None = None

    def __post_init__(self) -> None:
        _check_schema("input", self.input_schema)
        _check_schema("output", self.output_schema)
        members = self._members()
        if self.text_input is not None and self.text_input not in members:
            raise ValueError(f"text_input names {self.text_input!r}, which input does not have")
        for name in placeholders(self.prompt or ""):
            if name not in members:
                known = ", ".join(f"{{{{{member}}}}}" for member in sorted(members)) or "none"
                raise ValueError(f"prompt uses {{{{{name}}}}}, but the input has: {known}")

    @property
    def input_schema(self) -> dict[str, Any]:
        """The JSON Schema of the input."""
        return dict(DEFAULT_INPUT) if self.input is None else self.input

    @property
    def output_schema(self) -> dict[str, Any]:
        """The JSON Schema of the output."""
        return dict(DEFAULT_OUTPUT) if self.output is None else self.output

    @property
    def is_structured(self) -> bool:
        """Whether the output is JSON; text is streamed instead."""
        return self.output_schema.get("type") != "string"

    @property
    def text_member(self) -> str | None:
        """The member of the input that plain text fills, if any."""
        if self.text_input is not None:
            return self.text_input
        text = self._members().get("text")
        return "text" if isinstance(text, dict) and text.get("type") == "string" else None

    def with_defaults(self, members: Mapping[str, Any]) -> dict[str, Any]:
        """An input with the schema's ``default`` for each member that is not given."""
        defaults = {
            name: schema["default"]
            for name, schema in self._members().items()
            if isinstance(schema, dict) and "default" in schema
        }
        return defaults | dict(members)

    def _members(self) -> dict[str, Any]:
        properties = self.input_schema.get("properties")
        return properties if isinstance(properties, dict) else {}


class AgentDeclaration(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A table ``[[agents]]``: an agent in a Python module, or one declared without code.

    Attributes:
        module: ``package.module:name`` or ``file.py:name`` of an ``Agent``; the name may be left
            out where there is only one. Only ``replicas`` and ``concurrency`` may stand beside it.
        name: The agent's name on the bus.
        description: What it is, for people and for models that choose among agents.
        version: The agent's own version.
        model: The model it asks: a table, or in the file the name of one of ``models``.
        prompt: Instructions that stand above every conversation (the system prompt).
        skills: What it can do; at least one. Of an ensemble: its skill with a contract of its own;
            absent: the contract of its members.
        ensemble: Instead of a model: the members that do the work, and how they work together.
        concurrency: How many tasks one replica runs at once; absent: the agent's own default.
        replicas: How many processes serve it.
    """

    module: Text | None = None
    name: Token | None = None
    description: Text | None = None
    version: Text = "1.0.0"
    model: ModelSettings | None = None
    prompt: Text | None = None
    skills: tuple[SkillDeclaration, ...] = ()
    ensemble: EnsembleTable | None = None
    concurrency: Count | None = None
    replicas: Count = 1

    def __post_init__(self) -> None:
        declared = ("name", "description", "model", "prompt", "skills", "ensemble")
        given = [key for key in declared if getattr(self, key)]
        if self.module is not None:
            if self.version != "1.0.0":
                given.append("version")
            if given:
                raise ValueError(f"module says all about the agent; remove {', '.join(given)}")
            return
        if self.ensemble is not None:
            self._check_ensemble(self.ensemble, given)
            return
        missing = [key for key in ("name", "description", "model", "skills") if key not in given]
        if missing:
            raise ValueError(f"write module, or for an agent without code also {_list(missing)}")
        ids = [skill.id for skill in self.skills]
        if len(set(ids)) < len(ids):
            raise ValueError("two skills have the same id")

    def _check_ensemble(self, ensemble: EnsembleTable, given: list[str]) -> None:
        foreign = [key for key in given if key in ("model", "prompt")]
        if foreign:
            raise ValueError(f"an ensemble has members instead of a model; remove {_list(foreign)}")
        if self.name is None:
            raise ValueError("an ensemble needs a name")
        own = ensemble.own_skill
        if [skill.id for skill in self.skills] not in ([], [own]):
            raise ValueError(
                f"an ensemble has one skill, here {own!r}; write [[agents.skills]] with that id, "
                "or leave it out to take over the members' contract"
            )
        if self.name in ensemble.named_members():
            raise ValueError(f"{self.name!r} cannot be a member of itself")

    @property
    def label(self) -> str:
        """How to call it in messages to people."""
        return self.name or self.module or "agent"


class Configuration(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The whole file.

    Attributes:
        bus: Where the agents meet.
        durable: The limits of durable delivery.
        models: Models by the role they play (``[models.fast]``); ``model = "fast"`` in an agent
            stands for the whole table.
        prices: What models cost, for those that do not say it themselves.
        agents: Who is there.
    """

    bus: BusSettings = BusSettings()
    durable: DurableTable = DurableTable()
    prices: tuple[ListedPrice, ...] = ()
    models: dict[Token, ModelSettings] = field(default_factory=dict)
    agents: tuple[AgentDeclaration, ...] = ()

    def __post_init__(self) -> None:
        names = [agent.name for agent in self.agents if agent.name is not None]
        for name in names:
            if names.count(name) > 1:
                raise ValueError(
                    f"two agents have the name {name!r}; for more of one, set replicas"
                )
        _check_circles(self.agents)


def _check_circles(agents: tuple[AgentDeclaration, ...]) -> None:
    """Refuse ensembles that ask each other: a task would go round until its hops are used up."""
    ensembles = {one.name: one.ensemble for one in agents if one.ensemble is not None}
    asked = {
        name: [
            member
            for member in ensemble.named_members()
            if member in ensembles and ensembles[member].own_skill == ensemble.skill
        ]
        for name, ensemble in ensembles.items()
    }
    try:
        TopologicalSorter(asked).prepare()
    except CycleError as error:
        circle = " asks ".join(repr(name) for name in reversed(error.args[1]))
        raise ValueError(
            f"these ensembles are members of each other: {circle}; "
            "remove one of them from the other's members"
        ) from None


def _check_schema(key: str, schema: dict[str, Any]) -> None:
    try:
        Draft202012Validator.check_schema(schema)
    except SchemaError as error:
        raise ValueError(f"{key} is not a JSON Schema: {error.message}") from None
    if key == "input" and schema.get("type") != "object":
        raise ValueError('input must be a schema of an object: write type = "object"')


def _list(keys: list[str]) -> str:
    spelled = {"model": "[agents.model]", "skills": "[[agents.skills]]"}
    return ", ".join(spelled.get(key, key) for key in keys)
