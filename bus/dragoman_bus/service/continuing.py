"""Output that continues where an earlier attempt stopped.

Spec: spec/durable.md, DUR-20. A skill that runs again emits its output from the beginning. What
the log has already is not written again; where the new output differs, it replaces the old.
"""

from __future__ import annotations

from collections.abc import Iterable

from msgspec import UnsetType

from dragoman_bus.protocol.a2a import Artifact, Part, text_part

__all__ = ["Continuation"]


class Continuation:
    """Compares what is emitted with what an earlier attempt left.

    Args:
        artifacts: What the log has.
    """

    def __init__(self, artifacts: Iterable[Artifact]) -> None:
        self._left = {artifact.artifact_id: _Old(artifact.parts) for artifact in artifacts}

    def take(self, artifact: Artifact, *, append: bool) -> list[tuple[Artifact, bool]]:
        """What to write for an emitted piece, each with its ``append``; perhaps nothing."""
        old = self._left.get(artifact.artifact_id)
        if old is None:
            return [(artifact, append)]
        written: list[tuple[Artifact, bool]] = []
        for part in artifact.parts:
            rest, differs = old.match(part)
            if differs:
                del self._left[artifact.artifact_id]
                parts = [*old.matched, *artifact.parts[artifact.parts.index(part) :]]
                return [(Artifact(artifact_id=artifact.artifact_id, parts=parts), False)]
            if rest is not None:
                written.append((Artifact(artifact_id=artifact.artifact_id, parts=[rest]), True))
        return written


class _Old:
    """The parts an earlier attempt left, matched one after the other; texts run together."""

    def __init__(self, parts: list[Part]) -> None:
        self._parts = _joined(parts)
        self._offset = 0
        self.matched: list[Part] = []

    def match(self, part: Part) -> tuple[Part | None, bool]:
        """What of ``part`` lies beyond the old output, and whether it contradicts it."""
        rest: Part | None = part
        if self._parts:
            rest, differs = self._against(self._parts[0], part)
            if differs:
                return None, True
        self.matched.append(part)
        return rest, False

    def _against(self, old: Part, part: Part) -> tuple[Part | None, bool]:
        if isinstance(part.text, UnsetType) or isinstance(old.text, UnsetType):
            if self._offset or part != old:
                return None, True
            self._parts.pop(0)
            return None, False
        left = old.text[self._offset :]
        if left.startswith(part.text):
            self._offset += len(part.text)
            if self._offset == len(old.text) and len(self._parts) > 1:
                self._parts.pop(0)
                self._offset = 0
            return None, False
        if part.text.startswith(left) and len(self._parts) == 1:
            self._parts.pop(0)
            return text_part(part.text[len(left) :]), False
        return None, True


def _joined(parts: list[Part]) -> list[Part]:
    joined: list[Part] = []
    for part in parts:
        before = joined[-1].text if joined else None
        if isinstance(before, str) and isinstance(part.text, str):
            joined[-1] = text_part(before + part.text)
        else:
            joined.append(part)
    return joined
