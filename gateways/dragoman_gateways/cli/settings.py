"""What every command knows: the server, the configuration file, and how to report failures."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from dragoman_agents.configuration import Configuration

__all__ = ["SERVER_VARIABLE", "Settings"]

SERVER_VARIABLE = "DRAGOMAN_SERVER"
"""Where ``--server`` may stand instead; it wins over NATS_URL."""


@dataclass(kw_only=True)
class Settings:
    """Global options of one invocation; flags win over the environment, which wins over the file.

    Attributes:
        server: ``--server`` or its variables; ``None`` when neither is given.
        configuration: ``--config`` or ``DRAGOMAN_CONFIG``; ``None`` when neither is given.
        debug: Whether failures show their traceback.
        json: Whether standard output is for programs; set by the command's ``--json``.
    """

    server: str | None = None
    configuration: Path | None = None
    debug: bool = False
    json: bool = False

    def load(self, **flags: Any) -> Configuration:
        """The whole configuration; ``flags`` are keys of ``[bus]``.

        Raises:
            NotConfigured: the file is missing or wrong; the message says where and how.
        """
        from dragoman_agents.configuration import load_configuration

        return load_configuration(self.configuration, flags={"server": self.server} | flags)

    def file(self) -> Path | None:
        """The configuration file that ``load`` reads, if there is one.

        Raises:
            NotConfigured: the file that was named does not exist.
        """
        from dragoman_agents.configuration import find_file

        return find_file(self.configuration)

    def server_url(self) -> str | None:
        """Where to connect; ``None`` for the default of the client.

        Raises:
            NotConfigured: the configuration is wrong, or does not tell an address.
        """
        # Reading the configuration costs more than all the rest of starting: only where it counts.
        if self.server or not self._is_configured():
            return self.server
        bus = self.load().bus
        if bus.starts_server and bus.port == 0:
            from dragoman_bus.protocol.errors import NotConfigured

            raise NotConfigured(
                "the configured server listens on a free port that is not known here; give "
                "--server with the address that `dragoman up` printed"
            )
        return bus.url

    def _is_configured(self) -> bool:
        named = self.configuration is not None or Path("dragoman.toml").is_file()
        return named or any(name.startswith("DRAGOMAN_") for name in os.environ)
