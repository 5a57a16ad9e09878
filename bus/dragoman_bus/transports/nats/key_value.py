"""A bucket on JetStream, spoken as plain requests: no consumer, whatever it does.

It is an ordinary NATS key-value bucket (stream ``KV_<bucket>``, subjects ``$KV.<bucket>.<key>``),
so ``nats kv`` shows it. Five things differ from the client libraries, all tried on server 2.15:

- ``put`` takes a time to live *and* an expected revision.
- The marks that a deletion or an expiry leaves behind count as absent, in ``get`` and when a
  value is created again.
- ``entries`` reads by direct get, in pages, with an exact end.
- ``watch`` is a subscription on the writes.
- A value that the server restored after its time to live was over counts as absent.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Any, Protocol

import msgspec

from dragoman_bus.protocol.errors import (
    BusUnavailable,
    NoResponders,
    ProtocolError,
    RevisionConflict,
)
from dragoman_bus.transports.keys import check_key, is_marker
from dragoman_bus.transports.matching import check_pattern
from dragoman_bus.transports.nats.server_clock import ServerClock
from dragoman_bus.transports.port import (
    BucketSettings,
    Change,
    ChangeHandler,
    Delivery,
    Entry,
    Handler,
    Headers,
    Subscription,
)
from dragoman_bus.transports.requests import RequestMultiplexer

__all__ = ["JetStreamKeyValue", "open_bucket"]

_TIMEOUT = 5.0
_PAGE = 1000
_NANOSECONDS = 1_000_000_000
_BUCKET = re.compile(r"[A-Za-z0-9_-]{1,64}")

_STREAM_NOT_FOUND = 10059
_NAME_IN_USE = 10058
_WRONG_LAST_SEQUENCE = (10071, 10164)
_JETSTREAM_OFF = (10039, 10076)

_NO_JETSTREAM = (
    "JetStream is off on the NATS server; start it with `nats-server -js` (or use `dragoman up`), "
    "and enable JetStream for the account"
)


class _Failure(msgspec.Struct):
    code: int = 0
    err_code: int = 0
    description: str = ""


class _Answer(msgspec.Struct):
    """What matters in an acknowledgement or in an answer of the JetStream API."""

    seq: int = 0
    ts: str = ""
    error: _Failure | None = None
    config: dict[str, Any] | None = None


class _Connection(Protocol):
    async def request(
        self, subject: str, data: bytes, *, timeout: float, headers: Headers | None = None
    ) -> Delivery: ...

    async def subscribe(
        self, subject: str, handler: Handler, *, queue: str = ""
    ) -> Subscription: ...


async def open_bucket(
    connection: _Connection,
    requests: RequestMultiplexer,
    bucket: str,
    settings: BucketSettings,
) -> JetStreamKeyValue:
    """Open ``bucket``, creating it when ``settings`` say so; errors as in ``Transport``."""
    if not _BUCKET.fullmatch(bucket):
        raise ProtocolError(f"{bucket!r} is not the name of a bucket")
    key_value = JetStreamKeyValue(connection, requests, bucket, settings)
    if settings.create:
        key_value.server_clock.set(await _ensure(connection, bucket, settings))
    return key_value


async def _ensure(connection: _Connection, bucket: str, settings: BucketSettings) -> str:
    """Make the stream unless it exists; two who do so at once agree. Returns the server's time."""
    for action, body in (
        ("INFO", b""),
        ("CREATE", msgspec.json.encode(_stream(bucket, settings))),
        ("INFO", b""),
    ):
        try:
            answer = await _call_api(connection, f"STREAM.{action}.KV_{bucket}", body)
        except BusUnavailable as error:
            if action == "INFO" and error.code == "PERMISSION_DENIED":
                return ""  # a reader may not look at the stream, and need not
            raise
        if answer.error is None:
            config = answer.config or {}
            _check_features(bucket, config)
            await _replicate(connection, bucket, config, settings)
            return answer.ts
        if answer.error.err_code not in (_STREAM_NOT_FOUND, _NAME_IN_USE):
            raise _failed(f"cannot open the bucket {bucket}", answer.error)
    raise BusUnavailable(f"the bucket {bucket} can neither be opened nor created")


async def _replicate(
    connection: _Connection, bucket: str, config: Mapping[str, Any], settings: BucketSettings
) -> None:
    """Give a bucket that somebody made with fewer copies as many as are wanted here."""
    if config.get("num_replicas", 1) >= settings.replicas:
        return
    body = msgspec.json.encode({**config, "num_replicas": settings.replicas})
    answer = await _call_api(connection, f"STREAM.UPDATE.KV_{bucket}", body)
    if answer.error is not None:
        raise _failed(f"cannot replicate the bucket {bucket}", answer.error)


async def _call_api(connection: _Connection, name: str, body: bytes) -> _Answer:
    try:
        answer = await connection.request(f"$JS.API.{name}", body, timeout=_TIMEOUT)
    except NoResponders as error:
        raise BusUnavailable(_NO_JETSTREAM, code="NOT_CONFIGURED") from error
    return msgspec.json.decode(answer.data, type=_Answer)


def _stream(bucket: str, settings: BucketSettings) -> dict[str, Any]:
    return {
        "name": f"KV_{bucket}",
        "subjects": [f"$KV.{bucket}.>"],
        "retention": "limits",
        "discard": "new",
        "storage": "memory" if settings.in_memory else "file",
        "num_replicas": settings.replicas,
        "max_bytes": -1 if settings.maximum_bytes is None else settings.maximum_bytes,
        "max_msgs": -1,
        # With more than one message per subject, the server raises every time to live.
        "max_msgs_per_subject": 1,
        "max_age": 0,
        "allow_msg_ttl": True,
        "subject_delete_marker_ttl": max(1, settings.marker_seconds) * _NANOSECONDS,
        "allow_rollup_hdrs": True,
        "allow_direct": True,
        "deny_delete": True,
    }


def _check_features(bucket: str, config: Mapping[str, Any]) -> None:
    missing = [name for name in ("allow_msg_ttl", "allow_direct") if not config.get(name)]
    if config.get("max_msgs_per_subject") != 1:
        missing.append("max_msgs_per_subject: 1")
    if missing:
        raise BusUnavailable(
            f"the bucket {bucket} exists without {', '.join(missing)}, which Dragoman needs "
            f"(nats-server 2.11 or later); edit or delete the stream KV_{bucket}",
            code="NOT_CONFIGURED",
        )


def _failed(what: str, failure: _Failure) -> BusUnavailable:
    if failure.err_code in _JETSTREAM_OFF:
        return BusUnavailable(_NO_JETSTREAM, code="NOT_CONFIGURED")
    return BusUnavailable(f"{what}: {failure.description} (JetStream error {failure.err_code})")


class JetStreamKeyValue:
    """A ``KeyValue`` on a JetStream stream; see ``open_bucket``."""

    def __init__(
        self,
        connection: _Connection,
        requests: RequestMultiplexer,
        bucket: str,
        settings: BucketSettings,
    ) -> None:
        self._connection = connection
        self._requests = requests
        self._bucket = bucket
        self._prefix = f"$KV.{bucket}."
        self._direct = f"$JS.API.DIRECT.GET.KV_{bucket}"
        self._marker_seconds = max(1, settings.marker_seconds)
        self.server_clock = ServerClock()

    async def put(
        self,
        key: str,
        value: bytes,
        *,
        ttl: float | None = None,
        expected_revision: int | None = None,
    ) -> int:
        """See ``KeyValue.put``."""
        headers: dict[str, str] = {}
        if ttl is not None:
            headers["Nats-TTL"] = str(max(1, math.ceil(ttl)))
        return await self._write(key, value, headers, expected_revision)

    async def get(self, key: str) -> Entry | None:
        """See ``KeyValue.get``."""
        check_key(key)
        last = await self._last(key)
        return None if last is None or self._is_gone(last) else self._entry(last)

    async def delete(self, key: str, *, expected_revision: int | None = None) -> None:
        """See ``KeyValue.delete``."""
        headers = {"KV-Operation": "DEL", "Nats-TTL": str(self._marker_seconds)}
        await self._write(key, b"", headers, expected_revision)

    async def entries(self, pattern: str = ">") -> list[Entry]:
        """See ``KeyValue.entries``.

        Every message of the stream is the last of its subject, so reading all messages in order
        gives the entries; unlike ``multi_last`` that has no limit of 1024. A key written while it
        is read may come twice, and the later one counts; none is missed.
        """
        check_pattern(pattern)
        found: dict[str, Delivery] = {}
        first = 1
        while True:
            query = {"seq": first, "next_by_subj": self._prefix + pattern, "batch": _PAGE}
            page, last = await self._batch(msgspec.json.encode(query))
            for delivery in page:
                subject = _header(delivery, "Nats-Subject")
                found.pop(subject, None)
                found[subject] = delivery
            if page:
                self.server_clock.observe(page[-1])
            status = _header(last, "Status")
            if status == "404" or (status == "204" and _header(last, "Nats-Num-Pending") == "0"):
                return [self._entry(one) for one in found.values() if not self._is_gone(one)]
            if status != "204" or not page:
                reason = f"{status} {_header(last, 'Description')}".strip()
                raise BusUnavailable(f"cannot read the bucket {self._bucket}: {reason}")
            first = int(_header(page[-1], "Nats-Sequence")) + 1

    async def watch(self, pattern: str, handler: ChangeHandler) -> Subscription:
        """See ``KeyValue.watch``."""
        start = len(self._prefix)

        def receive(delivery: Delivery) -> None:
            value = None if is_marker(delivery) else delivery.data
            handler(Change(delivery.subject[start:], value))

        return await self._connection.subscribe(self._prefix + pattern, receive)

    async def _write(
        self, key: str, value: bytes, headers: dict[str, str], expected: int | None
    ) -> int:
        check_key(key)
        revision = expected
        while True:
            if revision is not None:
                headers["Nats-Expected-Last-Subject-Sequence"] = str(revision)
            answer = await self._publish(key, value, headers)
            if answer.error is None:
                return answer.seq
            if answer.error.err_code not in _WRONG_LAST_SEQUENCE:
                raise _failed(f"cannot write {key} in the bucket {self._bucket}", answer.error)
            marker = await self._marker_revision(key) if expected == 0 else None
            if marker is None or marker == revision:
                raise RevisionConflict(
                    f"the key {key} of the bucket {self._bucket} is not at revision {expected}"
                )
            revision = marker

    async def _marker_revision(self, key: str) -> int | None:
        """What the server must be told to expect when the key is absent; ``None`` if it lives."""
        last = await self._last(key)
        if last is None:
            return 0
        return int(_header(last, "Nats-Sequence")) if self._is_gone(last) else None

    async def _publish(self, key: str, value: bytes, headers: Headers) -> _Answer:
        try:
            answer = await self._connection.request(
                self._prefix + key, value, timeout=_TIMEOUT, headers=headers or None
            )
        except NoResponders as error:
            raise self._missing() from error
        return msgspec.json.decode(answer.data, type=_Answer)

    async def _last(self, key: str) -> Delivery | None:
        try:
            answer = await self._connection.request(
                f"{self._direct}.{self._prefix}{key}", b"", timeout=_TIMEOUT
            )
        except NoResponders as error:
            raise self._missing() from error
        if _header(answer, "Status") == "404":
            return None
        self.server_clock.observe(answer)
        return answer

    async def _batch(self, query: bytes) -> tuple[list[Delivery], Delivery]:
        try:
            return await self._requests.collect(
                self._direct,
                query,
                timeout=_TIMEOUT,
                is_last=lambda delivery: bool(_header(delivery, "Status")),
            )
        except NoResponders as error:
            raise self._missing() from error

    def _is_gone(self, last: Delivery) -> bool:
        return is_marker(last) or self.server_clock.has_outlived(last)

    def _missing(self) -> BusUnavailable:
        return BusUnavailable(
            f"the bucket {self._bucket} does not exist on the NATS server, or JetStream is off "
            "there (`nats-server -js`, `dragoman up`)"
        )

    def _entry(self, delivery: Delivery) -> Entry:
        key = _header(delivery, "Nats-Subject")[len(self._prefix) :]
        return Entry(key, delivery.data, int(_header(delivery, "Nats-Sequence")))


def _header(delivery: Delivery, name: str) -> str:
    return "" if delivery.headers is None else delivery.headers.get(name, "")
