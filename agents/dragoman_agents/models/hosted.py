"""What adapters of models behind an API share: the list of models, and what they can do."""

from __future__ import annotations

from abc import abstractmethod

from dragoman_agents.models.adapter import HEALTH_SECONDS, ProviderAdapter
from dragoman_agents.models.port import Capability

__all__ = ["HostedAdapter"]


class HostedAdapter(ProviderAdapter):
    """Base of the adapters whose provider lists its models."""

    @property
    def capabilities(self) -> frozenset[Capability]:
        """Text, streams, tools, schemas; attachments by configuration."""
        capabilities: set[Capability] = {"text", "stream", "tools", *self.settings.attachments}
        if self.settings.structured_output is not False:
            capabilities.add("json_schema")
        return frozenset(capabilities)

    @abstractmethod
    async def _list(self, seconds: float) -> tuple[str, ...]:
        """The ids of the models; see ``list_models``."""

    async def list_models(self, *, seconds: float = HEALTH_SECONDS) -> tuple[str, ...]:
        """The ids of the models that generate text, in the order of the server.

        Raises:
            ModelError: as ``health``.
        """
        return await self._guarded(lambda: self._list(seconds), seconds=seconds)

    async def _check_health(self, seconds: float) -> None:
        # That the list holds the configured model is not required: several servers list other
        # names than those they accept.
        await self._list(seconds)
