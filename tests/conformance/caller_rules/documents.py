"""The documents of a raw agent as plain dictionaries: nothing of the product makes them."""

from __future__ import annotations

import itertools
from typing import Any

__all__ = ["COMPLETED", "INPUT_REQUIRED", "WORKING", "Documents", "part"]

WORKING = "TASK_STATE_WORKING"
COMPLETED = "TASK_STATE_COMPLETED"
INPUT_REQUIRED = "TASK_STATE_INPUT_REQUIRED"


def part(content: Any) -> dict[str, Any]:
    """A2A part: text for a string, data for anything else."""
    if isinstance(content, str):
        return {"text": content}
    return {"data": content, "mediaType": "application/json"}


class Documents:
    """Makes the messages of one instance; ``data`` members may be overridden by name."""

    def __init__(self, agent: str, instance: str) -> None:
        self.source = f"/agents/{agent}/{instance}"
        self._numbers = itertools.count(1)

    def envelope(self, kind: str, data: dict[str, Any], **attributes: Any) -> dict[str, Any]:
        """A message of ``dev.dragoman.<kind>``."""
        return {
            "specversion": "1.0",
            "id": f"raw-{next(self._numbers)}",
            "source": self.source,
            "type": f"dev.dragoman.{kind}",
            "time": "2026-11-24T12:00:00Z",
            "protocolversion": "1.0",
            "data": data,
            **attributes,
        }

    def status(
        self, task: str, sequence: int, state: str = WORKING, words: str = "", **members: Any
    ) -> dict[str, Any]:
        """A ``task.status``."""
        update = {"taskId": task, "contextId": task, "status": _status(state, words)}
        return self.envelope("task.status", _data(sequence, members, statusUpdate=update))

    def chunk(
        self, task: str, sequence: int, *contents: Any, append: bool = True, **members: Any
    ) -> dict[str, Any]:
        """A ``task.artifact`` that adds parts to ``output``."""
        update = {
            "taskId": task,
            "contextId": task,
            "artifact": {"artifactId": "output", "parts": [part(piece) for piece in contents]},
            "append": append,
        }
        return self.envelope("task.artifact", _data(sequence, members, artifactUpdate=update))

    def final(
        self,
        task: str,
        sequence: int,
        *contents: Any,
        state: str = COMPLETED,
        **members: Any,
    ) -> dict[str, Any]:
        """A ``task.final``; contents replace ``output``."""
        update = {"taskId": task, "contextId": task, "status": _status(state)}
        if contents:
            parts = [part(piece) for piece in contents]
            members["artifacts"] = [{"artifactId": "output", "parts": parts}]
        return self.envelope("task.final", _data(sequence, members, statusUpdate=update))

    def snapshot(
        self, task: str, sequence: int, *contents: Any, state: str = WORKING, **members: Any
    ) -> dict[str, Any]:
        """A ``task.snapshot`` whose ``output`` has these parts."""
        whole: dict[str, Any] = {"id": task, "contextId": task, "status": _status(state)}
        if contents:
            parts = [part(piece) for piece in contents]
            whole["artifacts"] = [{"artifactId": "output", "parts": parts}]
        return self.envelope("task.snapshot", _data(sequence, members, task=whole))

    def error(self, code: str, task: str | None = None, **members: Any) -> dict[str, Any]:
        """An ``error`` message."""
        reported = {
            "code": code,
            "message": f"scripted {code}",
            "retryable": False,
            "sideEffects": "none",
            **members,
        }
        return self.envelope("error", {"error": reported} | ({"taskId": task} if task else {}))


def _status(state: str, words: str = "") -> dict[str, Any]:
    if not words:
        return {"state": state}
    message = {"messageId": "words", "role": "ROLE_AGENT", "parts": [{"text": words}]}
    return {"state": state, "message": message}


def _data(sequence: int, members: dict[str, Any], **first: Any) -> dict[str, Any]:
    return {**first, "sequence": sequence, "attempt": 1, **members}
