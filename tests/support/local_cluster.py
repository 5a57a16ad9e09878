"""Three nats-servers on this machine that replicate to each other: a cluster without containers."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from dragoman_bus.server import NatsServer

__all__ = ["local_cluster"]

NODES = 3


@contextmanager
def local_cluster(directory: Path) -> Iterator[str]:
    """Run the nodes; gives the addresses of all for a client. JetStream needs a moment to elect."""
    ports = _free_ports(NODES)
    routes = ", ".join(f'"nats://127.0.0.1:{port}"' for port in ports)
    nodes = [
        NatsServer(
            directory / f"node-{number}",
            extra_configuration=(
                f"server_name: node-{number}\n"
                f"cluster {{ name: local, listen: 127.0.0.1:{port}, routes: [{routes}] }}"
            ),
        )
        for number, port in enumerate(ports)
    ]
    with ExitStack() as stack:
        for node in nodes:
            stack.enter_context(node)
        yield ",".join(node.url for node in nodes)


def _free_ports(count: int) -> list[int]:
    """Ports that were free a moment ago, all different."""
    held = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [int(one.getsockname()[1]) for one in held]
    for one in held:
        one.close()
    return ports
