"""Three nats-servers in containers, built from nothing but the server's own binary."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

os.environ.setdefault("TESTCONTAINERS_RYUK_DISABLED", "true")

from tests.support.server_image import build_server_image

NODES = ("one", "two", "three")
IMAGE = "dragoman-test-nats-server:latest"


class Cluster:
    """The running nodes by name."""

    def __init__(self) -> None:
        self.containers: dict[str, object] = {}

    @property
    def url(self) -> str:
        """All nodes, for a client that may lose any of them."""
        return ",".join(self.node_url(name) for name in self.containers)

    def node_url(self, name: str) -> str:
        """One node."""
        container = self.containers[name]
        host = container.get_container_host_ip()  # type: ignore[attr-defined]
        return f"nats://{host}:{container.get_exposed_port(4222)}"  # type: ignore[attr-defined]

    def kill(self, name: str) -> None:
        """SIGKILL a node."""
        self.containers[name].get_wrapped_container().kill()  # type: ignore[attr-defined]


@pytest.fixture(scope="session")
def server_image() -> str:
    """An image that holds the static server binary and nothing else."""
    import docker

    client = docker.from_env()
    try:
        return build_server_image(client, IMAGE)
    finally:
        client.close()


@pytest.fixture
def cluster(server_image: str) -> Iterator[Cluster]:
    """Three nodes with JetStream that know each other."""
    from testcontainers.core.container import DockerContainer
    from testcontainers.core.network import Network

    made = Cluster()
    routes = ",".join(f"nats://{name}:6222" for name in NODES)
    with Network() as network:
        try:
            for name in NODES:
                command = (
                    f"--name {name} --port 4222 --jetstream --store_dir /data "
                    f"--cluster_name dragoman --cluster nats://0.0.0.0:6222 --routes {routes}"
                )
                container = (
                    DockerContainer(server_image)
                    .with_network(network)
                    .with_network_aliases(name)
                    .with_command(command)
                    .with_exposed_ports(4222)
                )
                made.containers[name] = container.start()
            yield made
        finally:
            for container in made.containers.values():
                container.stop()  # type: ignore[attr-defined]
