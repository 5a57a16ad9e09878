"""What was learned from labelled questions, as a file that a configuration names.

JSON, so that it can be read, compared and kept with the configuration. ``dragoman learn`` writes it
(``ensembles.agents.lessons`` learns it); the option ``learned`` of an ensemble reads it.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import TypeAlias, TypeVar

import msgspec
from msgspec import Struct

from dragoman_agents.ensembles.escalation import Escalation
from dragoman_agents.ensembles.weighting import JointWeights
from dragoman_bus.protocol.errors import NotConfigured

__all__ = [
    "CascadeKnowledge",
    "ConsensusKnowledge",
    "Knowledge",
    "RouterKnowledge",
    "read_knowledge",
    "write_knowledge",
]


class _Knowledge(Struct, tag_field="kind", frozen=True, kw_only=True):
    """Attributes: ``skill`` was asked, with ``labels`` labelled questions."""

    skill: str
    labels: int


class ConsensusKnowledge(_Knowledge, tag="consensus", frozen=True, kw_only=True):
    """For a consensus.

    Attributes:
        weights: How much each member counts.
        order: Whom to ask first when few are asked; empty where prices are not known.
    """

    weights: JointWeights
    order: tuple[str, ...] = ()


class CascadeKnowledge(_Knowledge, tag="cascade", frozen=True, kw_only=True):
    """For a cascade.

    Attributes:
        stages: The members of each stage; what was learned holds for these only.
        escalations: For each stage but the last, when to go on.
    """

    stages: tuple[tuple[str, ...], ...]
    escalations: tuple[Escalation, ...]


class RouterKnowledge(_Knowledge, tag="router", frozen=True, kw_only=True):
    """For a router.

    Attributes:
        qualities: By subject and member: how often it was right, and how often it was judged.
    """

    qualities: Mapping[str, Mapping[str, tuple[float, float]]]


Knowledge: TypeAlias = ConsensusKnowledge | CascadeKnowledge | RouterKnowledge
Kind = TypeVar("Kind", bound=_Knowledge)


def read_knowledge(path: str, kind: type[Kind], *, ensemble: str, skill: str) -> Kind:
    """What the file holds for an ensemble.

    Raises:
        NotConfigured: it is not there, or is not what was learned for this kind and skill.
    """
    remedy = f"`dragoman learn {ensemble} QUESTIONS` writes it"
    try:
        known = msgspec.json.decode(Path(path).read_bytes(), type=kind)
    except OSError as error:
        words = error.strerror or type(error).__name__
        raise NotConfigured(f"ensemble {ensemble}: learned = {path!r}: {words}; {remedy}") from None
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise NotConfigured(
            f"ensemble {ensemble}: {path} is not what was learned for it: {error}; {remedy}"
        ) from None
    if known.skill != skill:
        raise NotConfigured(
            f"ensemble {ensemble}: {path} was learned for the skill {known.skill!r}, and this one "
            f"asks for {skill!r}; {remedy}"
        )
    return known


def write_knowledge(path: Path, knowledge: Knowledge) -> None:
    """Write the file; a reader sees the old one or the new one, never a part.

    Raises:
        OSError: it cannot be written.
    """
    document = msgspec.json.format(msgspec.json.encode(knowledge), indent=1) + b"\n"
    number, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(number, "wb") as file:
            file.write(document)
        # A temporary file is its owner's only; this one is as public as the configuration.
        Path(name).chmod(0o644)
        Path(name).replace(path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise
