"""The NATS permissions that an agent needs, and no more: made from what it announces.

Spec: spec/nats-binding.md, permissions. Streams, queues and buckets are made by whoever runs the
bus, so no agent needs the right to make one.
"""

from __future__ import annotations

import json

import msgspec

from dragoman_bus.artifacts.store import ARTIFACT_BUCKET, ARTIFACT_STREAM
from dragoman_bus.durable.layout import (
    LOG_STREAM,
    QUEUE_STREAM,
    agent_queue,
    skill_queue,
)
from dragoman_bus.protocol.payloads import AnnounceData
from dragoman_bus.protocol.subjects import (
    LOG_KINDS,
    PREFIX,
    REGISTRY_BUCKET,
    SKILL_QUEUE,
    TASK_CLASSES,
    agent_subject,
    ask_subject,
    card_key,
    skill_subject,
)

__all__ = ["Permissions", "agent_permissions", "inbox_prefix"]

MAXIMUM_RESPONSES = 1_000_000
RESPONSE_SECONDS = 86_400
"""How long after a request its answers may go on: a task may stream for a day."""

_CALLS = ("submit", "cancel", "reply", "get", "subscribe", "flow")


class Permissions(msgspec.Struct, frozen=True):
    """What one user of a nats-server may do; a subscription may name its queue group."""

    publish: list[str]
    subscribe: list[str]

    def as_configuration(self, user: str) -> str:
        """An entry of ``authorization { users: [...] }`` in the server's configuration."""
        listed = [
            f"    {verb}: {{ allow: [\n"
            + "".join(f"      {json.dumps(subject)}\n" for subject in subjects)
            + "    ] }\n"
            for verb, subjects in (("publish", self.publish), ("subscribe", self.subscribe))
        ]
        return (
            f"{{\n  user: {json.dumps(user)}\n  password: CHANGE-ME\n  permissions: {{\n"
            + "".join(listed)
            + f"    allow_responses: {{ max: {MAXIMUM_RESPONSES}, "
            + f'expires: "{RESPONSE_SECONDS}s" }}\n  }}\n}}\n'
        )


def inbox_prefix(agent: str) -> str:
    """Below which an agent receives answers, so that no other one can hear them."""
    return f"_INBOX.{agent}"


def agent_permissions(announce: AnnounceData, *, delegates: bool = False) -> Permissions:
    """What an agent needs to serve its skills; with ``delegates`` also to give work to others."""
    agent = announce.agent
    skills = [contract.skill for contract in announce.contracts]
    queues = [skill_queue(skill, class_) for skill in skills for class_ in TASK_CLASSES]
    queues.append(agent_queue(agent))
    publish = [
        f"$KV.{REGISTRY_BUCKET}.inst.{agent}.*",
        f"$KV.{REGISTRY_BUCKET}.{card_key(agent, '*')}",
        f"$JS.API.STREAM.INFO.KV_{REGISTRY_BUCKET}",
        *_direct_get(f"KV_{REGISTRY_BUCKET}"),
        *(f"$JS.API.CONSUMER.MSG.NEXT.{QUEUE_STREAM}.{queue}" for queue in queues),
        *(f"$JS.ACK.{QUEUE_STREAM}.{queue}.>" for queue in queues),
        *(f"{PREFIX}.evt.*.{kind}" for kind in LOG_KINDS if kind != "submit"),
        *(f"{PREFIX}.dlq.{skill}.*" for skill in skills),
        f"{PREFIX}.turn.*.*",
        # Whoever comes upon a task that another instance holds asks that one (DUR-86).
        f"{PREFIX}.inst.*.get",
        *_direct_get(LOG_STREAM),
        f"$O.{ARTIFACT_BUCKET}.>",
        *_direct_get(ARTIFACT_STREAM),
    ]
    subscribe = [
        f"{agent_subject(agent)} {agent}",
        *(f"{skill_subject(skill)} {SKILL_QUEUE}" for skill in skills),
        *(f"{ask_subject(skill)} {agent}" for skill in skills),
        # An instance chooses its id when it starts, so it cannot stand here.
        f"{PREFIX}.inst.*.*",
        *(f"$SRV.*{scope}" for scope in ("", f".{agent}", f".{agent}.*")),
        f"{inbox_prefix(agent)}.>",
    ]
    if delegates:
        publish += [f"{PREFIX}.{kind}.*" for kind in ("rpc", "skill", "ask")]
        publish += [f"{PREFIX}.inst.*.{operation}" for operation in _CALLS if operation != "get"]
        publish += [f"{PREFIX}.evt.*.submit", f"{PREFIX}.task.>", f"{PREFIX}.timer.*.deadline"]
        publish += [f"$JS.API.STREAM.INFO.{LOG_STREAM}"]
        subscribe += [f"$KV.{REGISTRY_BUCKET}.>", f"{PREFIX}.live.*.*"]
    return Permissions(publish, subscribe)


def _direct_get(stream: str) -> list[str]:
    return [f"$JS.API.DIRECT.GET.{stream}", f"$JS.API.DIRECT.GET.{stream}.>"]
