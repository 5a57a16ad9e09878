"""Subjects of the NATS binding: built and taken apart in one place.

Spec: spec/nats-binding.md, subjects. The first two tokens are ``dragoman.v1``; a tenant is a NATS
account and has no token. Names are tokens, so no caller can smuggle a wildcard into a subject.
"""

from __future__ import annotations

import functools
import re

from dragoman_bus.protocol.errors import ProtocolError

__all__ = [
    "INSTANCE_OPERATIONS",
    "LOG_KINDS",
    "PREFIX",
    "REGISTRY_BUCKET",
    "SKILL_QUEUE",
    "TASK_CLASSES",
    "TIMER_PURPOSES",
    "agent_subject",
    "ask_subject",
    "card_key",
    "check_token",
    "dead_letter_subject",
    "due_subject",
    "event_subject",
    "instance_subject",
    "is_token",
    "lease_key",
    "live_subject",
    "log_subject",
    "parse_log_subject",
    "parse_registry_key",
    "queue_subject",
    "skill_subject",
    "timer_subject",
    "turn_subject",
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

LOG_KINDS = ("submit", "state", "update", "step", "child", "control")
TASK_CLASSES = ("interactive", "batch")
TIMER_PURPOSES = ("deadline", "cancel")

_TOKEN = re.compile(r"[a-z0-9_-]{1,63}")

# A program has few agents and skills to do with, and asks for their subjects with every task.
_remembered = functools.lru_cache(maxsize=1024)


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


def queue_subject(skill: str, class_: str, *, agent: str | None = None) -> str:
    """Where a durable task waits: the queue of a skill, or of one agent (spec/durable.md)."""
    if class_ not in TASK_CLASSES:
        raise ProtocolError(f"{class_!r} is not a class; the classes are {TASK_CLASSES}")
    where = "" if agent is None else f"{check_token(agent, 'agent name')}."
    return f"{PREFIX}.task.{where}{check_token(skill, 'skill name')}.{class_}"


def log_subject(task: str, kind: str = "*") -> str:
    """Entries of a durable task's log; ``kind`` is one of LOG_KINDS, ``*`` is all of them."""
    return f"{PREFIX}.evt.{_task_token(task)}.{_log_kind(kind)}"


def live_subject(task: str, kind: str = "*") -> str:
    """Where entries are heard as soon as they are stored."""
    return f"{PREFIX}.live.{_task_token(task)}.{_log_kind(kind)}"


def dead_letter_subject(skill: str = "*", task: str = "*") -> str:
    """The dead letter of a task and its settlement; ``*`` reads those of all."""
    name = skill if skill == "*" else check_token(skill, "skill name")
    return f"{PREFIX}.dlq.{name}.{_task_token(task)}"


def turn_subject(context: str, task: str = "*") -> str:
    """The ordered tasks of a context."""
    return f"{PREFIX}.turn.{check_token(context, 'context id')}.{_task_token(task)}"


def timer_subject(task: str, purpose: str) -> str:
    """The schedule of a task for one of TIMER_PURPOSES."""
    if purpose not in TIMER_PURPOSES:
        raise ProtocolError(f"{purpose!r} is not a timer; the timers are {TIMER_PURPOSES}")
    return f"{PREFIX}.timer.{check_token(task, 'task id')}.{purpose}"


def due_subject(task: str = "*") -> str:
    """What a schedule of the task delivers to."""
    return f"{PREFIX}.due.{_task_token(task)}"


def parse_log_subject(subject: str) -> tuple[str, str] | None:
    """``(task, kind)`` of an ``evt`` or ``live`` subject, or ``None`` for another."""
    parts = subject.split(".")
    if len(parts) == 5 and parts[2] in ("evt", "live") and is_token(parts[3]):
        return parts[3], parts[4]
    return None


def _task_token(task: str) -> str:
    return task if task == "*" else check_token(task, "task id")


def _log_kind(kind: str) -> str:
    if kind != "*" and kind not in LOG_KINDS:
        raise ProtocolError(f"{kind!r} is not a kind of log entry; the kinds are {LOG_KINDS}")
    return kind


@_remembered
def agent_subject(agent: str) -> str:
    """Where the replicas of an agent take tasks; queue group = the agent's name."""
    return f"{PREFIX}.rpc.{check_token(agent, 'agent name')}"


@_remembered
def skill_subject(skill: str) -> str:
    """Where every agent that offers a skill takes tasks; queue group ``skill``."""
    return f"{PREFIX}.skill.{check_token(skill, 'skill name')}"


@_remembered
def ask_subject(skill: str) -> str:
    """Where one replica of each agent that offers a skill takes tasks; queue group = its name."""
    return f"{PREFIX}.ask.{check_token(skill, 'skill name')}"


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
