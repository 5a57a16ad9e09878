"""The servers of a chaos run: one process on this machine, or three nodes in containers."""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import signal
import time
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol, Self

from dragoman_bus.server import NatsServer
from tests.support.server_image import build_server_image

__all__ = ["ClusterStage", "ServerStage", "Stage"]

Address = tuple[str, int]

IMAGE = "dragoman-chaos-nats-server:latest"
CLIENT_PORT = 4222


class Stage(Protocol):
    """Servers that can be hurt; every fault heals by itself before it returns."""

    replicas: int

    @property
    def addresses(self) -> list[Address]:
        """Host and port of every node."""

    async def kill(self, dice: random.Random) -> None:
        """Kill -9 a node, and start it again with what it had on disk."""

    async def restart(self, dice: random.Random) -> None:
        """Ask a node to end, and start it again."""

    async def pause(self, dice: random.Random) -> None:
        """Stop a node without ending it, for a while."""

    async def cut(self, dice: random.Random) -> None:
        """Take a node off the network, for a while."""


class ServerStage:
    """One nats-server.

    Args:
        directory: Where it keeps its data.
    """

    replicas = 1

    def __init__(self, directory: Path) -> None:
        self._server = NatsServer(directory)

    def __enter__(self) -> Self:
        self._server.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._server.stop()

    @property
    def addresses(self) -> list[Address]:
        """See ``Stage``."""
        return [("127.0.0.1", self._server.port)]

    async def kill(self, dice: random.Random) -> None:
        """See ``Stage``."""
        await asyncio.to_thread(self._server.kill)
        await asyncio.sleep(dice.uniform(0.0, 1.0))
        # In this thread: the kernel ends the server with the thread that started it.
        self._server.start()

    async def restart(self, dice: random.Random) -> None:
        """See ``Stage``."""
        await asyncio.to_thread(self._server.stop)
        await asyncio.sleep(dice.uniform(0.0, 1.0))
        self._server.start()

    async def pause(self, dice: random.Random) -> None:
        """See ``Stage``."""
        process = self._server.process_id
        if process is not None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(process, signal.SIGSTOP)
                await asyncio.sleep(dice.uniform(0.1, 2.0))
                os.kill(process, signal.SIGCONT)

    async def cut(self, dice: random.Random) -> None:
        """Nothing: every participant has a proxy that does it."""


class ClusterStage:
    """Nodes in containers that hold the server's binary and nothing else.

    Args:
        nodes: How many; streams have as many replicas.
    """

    def __init__(self, nodes: int) -> None:
        self.replicas = nodes
        self._client: Any = None
        self._network: Any = None
        self._containers: list[Any] = []
        self._hosts: list[str] = []

    def __enter__(self) -> Self:
        import docker
        from docker.types import IPAMConfig, IPAMPool

        self._client = docker.from_env()
        build_server_image(self._client, IMAGE)
        part = random.randrange(16, 250)
        subnet = f"10.213.{part}"
        self._network = self._client.networks.create(
            f"dragoman-chaos-{os.getpid()}-{part}",
            ipam=IPAMConfig(pool_configs=[IPAMPool(subnet=f"{subnet}.0/24")]),
        )
        self._hosts = [f"{subnet}.{10 + number}" for number in range(self.replicas)]
        try:
            for number in range(self.replicas):
                self._containers.append(self._start_node(number))
            self._wait()
        except BaseException:
            self.__exit__(None, None, None)
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        for container in self._containers:
            container.remove(force=True)
        if self._network is not None:
            self._network.remove()
        self._client.close()

    @property
    def addresses(self) -> list[Address]:
        """See ``Stage``."""
        return [(host, CLIENT_PORT) for host in self._hosts]

    async def kill(self, dice: random.Random) -> None:
        """See ``Stage``."""
        node = dice.choice(self._containers)
        await asyncio.to_thread(node.kill, signal="SIGKILL")
        await asyncio.sleep(dice.uniform(0.0, 3.0))
        await asyncio.to_thread(node.start)
        await self._settled()

    async def restart(self, dice: random.Random) -> None:
        """See ``Stage``."""
        node = dice.choice(self._containers)
        await asyncio.to_thread(node.restart, timeout=3)
        await self._settled()

    async def pause(self, dice: random.Random) -> None:
        """See ``Stage``."""
        # By signals: an engine's own pause needs the freezer, which a busy machine may refuse.
        node = dice.choice(self._containers)
        await asyncio.to_thread(node.kill, signal="SIGSTOP")
        await asyncio.sleep(dice.uniform(0.1, 5.0))
        await asyncio.to_thread(node.kill, signal="SIGCONT")
        await self._settled()

    async def cut(self, dice: random.Random) -> None:
        """See ``Stage``."""
        number = dice.randrange(self.replicas)
        node = self._containers[number]
        await asyncio.to_thread(self._network.disconnect, node, force=True)
        await asyncio.sleep(dice.uniform(0.5, 6.0))
        await asyncio.to_thread(self._network.connect, node, ipv4_address=self._hosts[number])
        await self._settled()

    async def _settled(self) -> None:
        """Give the node time to catch up: with one more away there is no majority."""
        await asyncio.sleep(3.0)

    def _start_node(self, number: int) -> Any:
        routes = ",".join(f"nats://{host}:6222" for host in self._hosts)
        container = self._client.containers.create(
            IMAGE,
            command=[
                "--name",
                f"node{number}",
                "--addr",
                "0.0.0.0",
                "--port",
                str(CLIENT_PORT),
                "--jetstream",
                "--store_dir",
                "/data",
                "--cluster_name",
                "chaos",
                "--cluster",
                "nats://0.0.0.0:6222",
                "--routes",
                routes,
            ],
        )
        self._network.connect(container, ipv4_address=self._hosts[number])
        container.start()
        return container

    def _wait(self, seconds: float = 30.0) -> None:
        """Until every node greets; who leads is found out by whoever connects."""
        import socket

        deadline = time.monotonic() + seconds
        for address in self.addresses:
            while True:
                try:
                    with socket.create_connection(address, timeout=1.0) as connection:
                        if connection.recv(4) == b"INFO":
                            break
                except OSError:
                    if time.monotonic() > deadline:
                        raise
                time.sleep(0.1)
