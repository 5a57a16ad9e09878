"""The bus as an AsyncAPI 3.0 document, as an agent sees it: what it receives, answers and sends.

Subjects come from ``dragoman_bus.protocol.subjects``, messages from ``messages.MESSAGE_TYPES``;
the schemas are referred to, not copied.
"""

from __future__ import annotations

import inspect
from typing import Any

from dragoman_bus.protocol.messages import MESSAGE_TYPES, TYPE_PREFIX
from dragoman_bus.protocol.subjects import (
    INSTANCE_OPERATIONS,
    LOG_KINDS,
    REGISTRY_BUCKET,
    SKILL_QUEUE,
    agent_subject,
    ask_subject,
    card_key,
    dead_letter_subject,
    event_subject,
    instance_subject,
    lease_key,
    log_subject,
    queue_subject,
    skill_subject,
    turn_subject,
)
from dragoman_bus.protocol.versions import CURRENT_VERSION

__all__ = ["asyncapi_document"]

SCHEMAS = "../schemas/draft"
SCHEMA_FORMAT = "application/schema+json;version=2020-12"
CONTENT_TYPE = "application/cloudevents+json"
STREAM = ("task.status", "task.artifact", "task.final", "task.snapshot", "error")

REQUESTS: dict[str, tuple[str, tuple[str, ...]]] = {
    "submit": ("task.submit", STREAM),
    "cancel": ("task.cancel", ("task.snapshot", "error")),
    "reply": ("task.reply", ("task.snapshot", "error")),
    "get": ("task.get", ("task.snapshot", "error")),
    "subscribe": ("task.subscribe", STREAM),
    "flow": ("task.flow", ()),
    "status": ("agent.status", ("agent.lease", "error")),
    "drain": ("agent.drain", ("agent.lease", "error")),
}
"""By operation of an instance: the message it receives, and the messages that answer."""

PARAMETERS = {
    "agent": "Name of an agent.",
    "skill": "Id of a skill.",
    "instance": "Id of a running instance.",
    "topic": "Topic of an event.",
    "event": "Name of an event.",
    "task": "Id of a task.",
    "context": "Id of a context.",
    "digest": "SHA-256 of the announcement, 64 hex digits.",
}


DURABLE = {
    "queue.skill": ("Durable tasks of a skill; the class batch has its own.", ("task.submit",)),
    "queue.agent": ("Durable tasks addressed to an agent.", ("task.submit",)),
    "deadLetters": ("Failed durable tasks.", ("task.deadletter", "task.settlement")),
    "turns": ("The order of tasks within a context.", ("task.get",)),
    "log.submit": ("The first entry of a task's log.", ("task.submit",)),
    "log.state": ("Claims, retries, questions and the end.", ("task.status", "task.final")),
    "log.update": ("Progress and output.", ("task.status", "task.artifact")),
    "log.step": ("Results of finished steps.", ("task.step",)),
    "log.child": ("Delegated tasks.", ("task.child",)),
    "log.control": (
        "What others want of a task.",
        ("task.cancel", "task.reply", "task.outbox"),
    ),
}


def asyncapi_document() -> dict[str, Any]:
    """The whole document, ready for JSON."""
    return {
        "asyncapi": "3.0.0",
        "info": {
            "title": "Dragoman",
            "version": CURRENT_VERSION,
            "description": "Agents on NATS, as an agent sees the bus (spec/README.md).",
            "license": {"name": "Apache-2.0"},
        },
        "defaultContentType": CONTENT_TYPE,
        "channels": _channels(),
        "operations": _operations(),
        "components": {"messages": {name: _message(name) for name in _names()}},
    }


def _names() -> list[str]:
    return [kind.removeprefix(TYPE_PREFIX) for kind in MESSAGE_TYPES]


def _channels() -> dict[str, Any]:
    channels = {
        "rpc": _channel(agent_subject(_mark("agent")), "Tasks for an agent.", ["task.submit"]),
        "skill": _channel(
            skill_subject(_mark("skill")), "Tasks for whoever has the skill.", ["task.submit"]
        ),
        "ask": _channel(
            ask_subject(_mark("skill")),
            "Tasks for one replica of each agent that has the skill.",
            ["task.submit"],
        ),
        "events": _channel(
            event_subject(_mark("topic"), _mark("event")), "Events of a topic.", ["bus.event"]
        ),
        "leases": _channel(
            _registry(lease_key(_mark("agent"), _mark("instance"))),
            "Leases of running instances: a key of the registry.",
            ["agent.lease"],
        ),
        "cards": _channel(
            _registry(card_key(_mark("agent"), _mark("digest"))),
            "Announcements of agents: a key of the registry.",
            ["agent.announce"],
        ),
        "answers": {
            "address": None,
            "description": "The reply subject of a request, chosen by the caller.",
            "messages": _references(sorted({*STREAM, "agent.lease"})),
        },
    }
    channels |= _durable_channels()
    for operation in INSTANCE_OPERATIONS:
        request, _ = REQUESTS[operation]
        channels[f"inst.{operation}"] = _channel(
            instance_subject(_mark("instance"), operation),
            f"{request} for one instance.",
            [request],
        )
    return channels


def _durable_channels() -> dict[str, Any]:
    task, skill = _mark("task"), _mark("skill")
    subjects = {
        "queue.skill": queue_subject(skill, "interactive"),
        "queue.agent": queue_subject(skill, "interactive", agent=_mark("agent")),
        "deadLetters": dead_letter_subject(skill, task),
        "turns": turn_subject(_mark("context"), task),
        **{f"log.{kind}": log_subject(task, kind) for kind in LOG_KINDS},
    }
    return {
        channel: _channel(subject, DURABLE[channel][0], _names_of(channel))
        for channel, subject in subjects.items()
    }


def _names_of(channel: str) -> list[str]:
    return list(DURABLE[channel][1])


def _operations() -> dict[str, Any]:
    submit, answers = REQUESTS["submit"]
    operations = {
        "receiveFromAgent": _request("rpc", submit, answers),
        "receiveFromScatter": _request("ask", submit, answers),
        "receiveFromSkill": _request("skill", submit, answers)
        | {"bindings": {"nats": {"queue": SKILL_QUEUE}}},
        "publishEvent": _action("send", "events", ["bus.event"]),
        "hearEvent": _action("receive", "events", ["bus.event"]),
        "renewLease": _action("send", "leases", ["agent.lease"]),
        "announce": _action("send", "cards", ["agent.announce"]),
    }
    for channel in _durable_channels():
        action = "receive" if channel.startswith("queue.") else "send"
        operations[channel] = _action(action, channel, _names_of(channel))
    for operation in INSTANCE_OPERATIONS:
        operations[operation] = _request(f"inst.{operation}", *REQUESTS[operation])
    return operations


def _mark(parameter: str) -> str:
    """A token that stands for a parameter until ``_address`` writes it in braces."""
    return f"parameter-{parameter}"


def _registry(key: str) -> str:
    return f"$KV.{REGISTRY_BUCKET}.{key}"


def _channel(subject: str, description: str, names: list[str]) -> dict[str, Any]:
    used = [name for name in PARAMETERS if _mark(name) in subject.split(".")]
    tokens = (
        "{" + token.removeprefix("parameter-") + "}" if token.startswith("parameter-") else token
        for token in subject.split(".")
    )
    return {
        "address": ".".join(tokens),
        "description": description,
        "parameters": {name: {"description": PARAMETERS[name]} for name in used},
        "messages": _references(names),
    }


def _references(names: list[str]) -> dict[str, Any]:
    return {name: {"$ref": f"#/components/messages/{name}"} for name in names}


def _action(action: str, channel: str, names: list[str]) -> dict[str, Any]:
    return {
        "action": action,
        "channel": {"$ref": f"#/channels/{channel}"},
        "messages": [{"$ref": f"#/channels/{channel}/messages/{name}"} for name in names],
    }


def _request(channel: str, request: str, answers: tuple[str, ...]) -> dict[str, Any]:
    operation = _action("receive", channel, [request])
    if answers:
        operation["reply"] = {
            "channel": {"$ref": "#/channels/answers"},
            "messages": [{"$ref": f"#/channels/answers/messages/{name}"} for name in answers],
        }
    return operation


def _message(name: str) -> dict[str, Any]:
    documentation = inspect.getdoc(MESSAGE_TYPES[TYPE_PREFIX + name]) or ""
    return {
        "name": TYPE_PREFIX + name,
        "title": name,
        "summary": documentation.partition(": ")[2] or documentation,
        "contentType": CONTENT_TYPE,
        "payload": {
            "schemaFormat": SCHEMA_FORMAT,
            "schema": {"$ref": f"{SCHEMAS}/{name}.json"},
        },
    }
