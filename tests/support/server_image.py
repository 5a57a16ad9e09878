"""An image for containers that holds the static nats-server binary and nothing else."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path
from typing import Any

from dragoman_bus.server import find_executable

__all__ = ["build_server_image"]

DOCKERFILE = 'FROM scratch\nCOPY nats-server /nats-server\nENTRYPOINT ["/nats-server"]\n'


def build_server_image(client: Any, tag: str) -> str:
    """Build the image with a Docker client; its tag."""
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        shutil.copy(find_executable().resolve(), folder / "nats-server")
        (folder / "nats-server").chmod(0o755)
        (folder / "Dockerfile").write_text(DOCKERFILE)
        client.images.build(path=place, tag=tag, rm=True)
    return tag
