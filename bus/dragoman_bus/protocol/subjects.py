"""Subjects of the NATS binding: built and taken apart in one place.

Spec: spec/nats-binding.md, subjects. The first two tokens are ``dragoman.v1``; a tenant is a NATS
account and has no token. Names are tokens, so no caller can smuggle a wildcard into a subject.
"""

from __future__ import annotations

import re

from dragoman_bus.protocol.errors import ProtocolError

__all__ = [
    "INSTANCE_OPERATIONS",
    "PREFIX",
    "REGISTRY_BUCKET",
    "SKILL_QUEUE",
    "agent_subject",
    "card_key",
    "check_token",
    "event_subject",
    "instance_subject",
    "is_token",
    "lease_key",
    "parse_registry_key",
    "skill_subject",
]

PREFIX = "dragoman.v1"
REGISTRY_BUCKET = "dragoman_registry"
SKILL_QUEUE = "skill"
INSTANCE_OPERATIONS = (
    "submit",
    "cancel",
    "reply",
    "get",
    "subscribe",
    "flow",
    "status",
    "drain",
)

_TOKEN = re.compile(r"[a-z0-9_-]{1,63}")


def is_token(text: str) -> bool:
    """Whether ``text`` can be a name: ``[a-z0-9_-]{1,63}``."""
    return _TOKEN.fullmatch(text) is not None


def check_token(text: str, what: str) -> str:
    """``text`` itself when it is a token.

    Raises:
        ProtocolError: naming ``what`` it should have been.
    """
    if not is_token(text):
        raise ProtocolError(
            f"{text[:80]!r} is not a {what}: use 1 to 63 of lower-case letters, digits, - and _"
        )
    return text


def agent_subject(agent: str) -> str:
    """Where the replicas of an agent take tasks; queue group = the agent's name."""
    return f"{PREFIX}.rpc.{check_token(agent, 'agent name')}"


def skill_subject(skill: str) -> str:
    """Where every agent that offers a skill takes tasks; queue group ``skill``."""
    return f"{PREFIX}.skill.{check_token(skill, 'skill name')}"


def instance_subject(instance: str, operation: str) -> str:
    """Where one instance is addressed; ``operation`` is one of INSTANCE_OPERATIONS or ``*``."""
    if operation != "*" and operation not in INSTANCE_OPERATIONS:
        raise ProtocolError(f"{operation!r} is not an operation of an instance")
    return f"{PREFIX}.inst.{check_token(instance, 'instance id')}.{operation}"


def event_subject(topic: str, event: str = "*") -> str:
    """Where events of a topic are published; ``*`` listens to all events of the topic."""
    name = event if event == "*" else check_token(event, "event name")
    return f"{PREFIX}.bus.{check_token(topic, 'topic')}.{name}"


def lease_key(agent: str, instance: str) -> str:
    """The registry key of an instance's lease."""
    return f"inst.{check_token(agent, 'agent name')}.{check_token(instance, 'instance id')}"


def card_key(agent: str, digest: str) -> str:
    """The registry key of an announcement; ``digest`` is ``sha256:`` and 64 hex digits."""
    return f"card.{check_token(agent, 'agent name')}.{digest.removeprefix('sha256:')}"


def parse_registry_key(key: str) -> tuple[str, str, str] | None:
    """``(kind, agent, rest)`` of a registry key of ours, or ``None`` for a foreign key."""
    parts = key.split(".")
    if len(parts) == 3 and parts[0] in ("inst", "card") and is_token(parts[1]):
        return parts[0], parts[1], parts[2]
    return None
