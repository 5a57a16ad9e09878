"""What happens when a handler raises: counted, logged once per kind, never fatal."""

from __future__ import annotations

import logging
from collections.abc import Callable

from dragoman_bus.transports.port import Statistics

__all__ = ["HandlerErrors"]


class HandlerErrors:
    """Keeps the errors of handlers away from the connection that calls them.

    Args:
        logger: Where the first error of each kind is logged, with its traceback.
        statistics: Whose ``handler_errors`` counts every error.
    """

    def __init__(self, logger: logging.Logger, statistics: Statistics) -> None:
        self._logger = logger
        self._statistics = statistics
        self._known: set[tuple[str, type[BaseException]]] = set()

    def report(self, place: str, error: Exception) -> None:
        """Count ``error``; log it when its type is new at ``place`` (a subject or a name)."""
        self._statistics.handler_errors += 1
        kind = (place, type(error))
        if kind in self._known:
            return
        self._known.add(kind)
        self._logger.error(
            "a handler of %s failed; it stays subscribed, and further errors of this kind are "
            "only counted",
            place,
            exc_info=error,
        )

    def call_all(self, listeners: list[Callable[[], None]]) -> None:
        """Call each listener; an error in one does not keep the others from being called."""
        for listener in list(listeners):
            try:
                listener()
            except Exception as error:  # noqa: BLE001 - whatever it raises
                self.report("a reconnect listener", error)
