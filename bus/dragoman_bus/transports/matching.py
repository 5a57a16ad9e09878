"""Subjects and wildcards by NATS rules: what is well formed, and which pattern matches what."""

from __future__ import annotations

import re

from dragoman_bus.protocol.errors import ProtocolError

__all__ = ["check_pattern", "check_subject", "is_pattern", "subject_matches"]

_WHITE_SPACE = re.compile(r"[ \t\r\n]")


def check_subject(subject: str) -> None:
    """Raise ``ProtocolError`` unless a message can be published on ``subject``."""
    if not subject or _WHITE_SPACE.search(subject):
        raise ProtocolError(f"{subject!r} is not a subject")


def check_pattern(pattern: str) -> None:
    """Raise ``ProtocolError`` unless ``pattern`` can be subscribed to."""
    check_subject(pattern)
    tokens = pattern.split(".")
    for token in tokens:
        wildcard = token in ("*", ">")
        if not token or (not wildcard and ("*" in token or ">" in token)):
            raise ProtocolError(f"{pattern!r} is not a subject or a pattern of subjects")
    if ">" in tokens[:-1]:
        raise ProtocolError(f"in {pattern!r} '>' must be the last token")


def is_pattern(subject: str) -> bool:
    """Whether a well-formed subject has wildcards."""
    return "*" in subject or ">" in subject


def subject_matches(pattern: str, subject: str) -> bool:
    """Whether ``pattern`` matches ``subject``: ``*`` is one token, ``>`` is one or more."""
    wanted = pattern.split(".")
    tokens = subject.split(".")
    for position, token in enumerate(wanted):
        if token == ">":
            return len(tokens) > position
        if position >= len(tokens) or (token != "*" and token != tokens[position]):
            return False
    return len(wanted) == len(tokens)
