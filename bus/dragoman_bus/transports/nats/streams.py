"""Stored messages on JetStream: appends the server arbitrates, and reads without a consumer.

Spec: spec/durable.md. Tried on server 2.15: an expectation may name another subject than the
message's own; an atomic batch costs ten times a single message, so one record is never a batch.
"""

from __future__ import annotations

import asyncio
import math
import random
import time
from collections.abc import Sequence
from datetime import UTC, datetime

import msgspec

from dragoman_bus.identifiers import new_identifier
from dragoman_bus.protocol.errors import BusUnavailable, NoResponders, RequestTimeout
from dragoman_bus.protocol.timestamps import format_timestamp, parse_timestamp
from dragoman_bus.transports.nats.administration import Administration
from dragoman_bus.transports.nats.api import (
    ON_ITS_WAY,
    TIMEOUT_SECONDS,
    Answer,
    Connection,
    error_of,
    header,
)
from dragoman_bus.transports.nats.pulling import JetStreamPuller
from dragoman_bus.transports.port import Delivery
from dragoman_bus.transports.requests import RequestMultiplexer
from dragoman_bus.transports.streams import Page, PulledHandler, Record, Stored

__all__ = ["JetStream"]

_SUBJECTS_AT_ONCE = 500
_EXPECTED = "Nats-Expected-Last-Subject-Sequence"


class JetStream(Administration):
    """``Streams`` on a NATS server; see ``NatsTransport.streams``."""

    def __init__(self, connection: Connection, requests: RequestMultiplexer) -> None:
        super().__init__(connection)
        self._requests = requests
        self._answered: set[str] = set()

    @property
    def max_payload(self) -> int:
        """See ``Streams.max_payload``."""
        return self.connection.max_payload

    async def append(self, stream: str, *records: Record) -> int:
        """See ``Streams.append``."""
        deadline = time.monotonic() + TIMEOUT_SECONDS
        while True:
            answer = await self._append(stream, records)
            if answer.error is None:
                return answer.seq
            if answer.error.err_code not in ON_ITS_WAY or time.monotonic() > deadline:
                raise error_of(f"{records[-1].subject} was not stored", answer.error)
            # What decides about this one is being replicated.
            await asyncio.sleep(random.uniform(0.001, 0.01))

    async def _append(self, stream: str, records: Sequence[Record]) -> Answer:
        last = records[-1]
        headers = _headers(stream, last)
        if len(records) > 1:
            batch = new_identifier()
            for number, record in enumerate(records[:-1], 1):
                await self.connection.publish(
                    record.subject,
                    record.data,
                    headers=_headers(stream, record) | _batch(batch, number),
                )
            headers |= _batch(batch, len(records)) | {"Nats-Batch-Commit": "1"}
        try:
            answer = await self.connection.request(
                last.subject, last.data, timeout=TIMEOUT_SECONDS, headers=headers
            )
        except NoResponders as error:
            raise self._silent(stream) from error
        self._answered.add(stream)
        return msgspec.json.decode(answer.data, type=Answer)

    async def last(self, stream: str, *patterns: str) -> list[Stored]:
        """See ``Streams.last``."""
        found: list[Stored] = []
        for start in range(0, len(patterns), _SUBJECTS_AT_ONCE):
            query: dict[str, object] = {"multi_last": patterns[start : start + _SUBJECTS_AT_ONCE]}
            page, _ = await self._get(stream, query)
            found += page
        return sorted(found, key=lambda message: message.position)

    async def read(
        self,
        stream: str,
        pattern: str,
        *,
        after: int = 0,
        since: float | None = None,
        limit: int = 1000,
    ) -> Page:
        """See ``Streams.read``."""
        query: dict[str, object] = {"next_by_subj": pattern, "batch": limit}
        if since is None:
            query["seq"] = after + 1
        else:
            query["start_time"] = format_timestamp(since)
        messages, pending = await self._get(stream, query)
        return Page(messages, pending > 0)

    async def puller(
        self, stream: str, queue: str, handler: PulledHandler, *, expires: float = 5.0
    ) -> JetStreamPuller:
        """See ``Streams.puller``."""
        puller = JetStreamPuller(self.connection, stream, queue, handler, expires)
        await puller.open()
        return puller

    async def _get(self, stream: str, query: dict[str, object]) -> tuple[list[Stored], int]:
        """The messages of one direct get, and how many remain."""
        try:
            answers, last = await self._requests.collect(
                f"$JS.API.DIRECT.GET.{stream}",
                msgspec.json.encode(query),
                timeout=TIMEOUT_SECONDS,
                is_last=_is_status,
            )
        except NoResponders as error:
            raise self._silent(stream) from error
        self._answered.add(stream)
        status = header(last, "Status")
        if status == "404":
            return [], 0
        if status != "204":
            reason = f"{status} {header(last, 'Description')}".strip()
            raise BusUnavailable(f"cannot read the stream {stream}: {reason}")
        stored = [_stored(answer) for answer in answers]
        remaining = int(header(last, "Nats-Num-Pending") or "0")
        expected = header(last, "Nats-Last-Sequence")
        if stored and expected and stored[-1].position != int(expected):
            raise RequestTimeout(f"a part of an answer of the stream {stream} was lost")
        return stored, remaining

    def _silent(self, stream: str) -> BusUnavailable:
        """Why nobody answers: a node that has just started or was cut off does not for a while."""
        if stream in self._answered:
            return BusUnavailable(f"the stream {stream} does not answer now")
        return BusUnavailable(
            f"the stream {stream} does not exist on the NATS server: durable delivery needs a "
            "supervisor that makes it (`dragoman up` or `dragoman supervise`)",
            code="NOT_CONFIGURED",
        )


def _is_status(delivery: Delivery) -> bool:
    return bool(header(delivery, "Status"))


def _stored(delivery: Delivery) -> Stored:
    return Stored(
        header(delivery, "Nats-Subject"),
        delivery.data,
        int(header(delivery, "Nats-Sequence")),
        parse_timestamp(header(delivery, "Nats-Time-Stamp")),
    )


def _headers(stream: str, record: Record) -> dict[str, str]:
    headers = {"Nats-Expected-Stream": stream}
    if record.expect is not None:
        headers[_EXPECTED] = str(record.expect.position)
        if record.expect.pattern != record.subject:
            headers[f"{_EXPECTED}-Subject"] = record.expect.pattern
    if record.identity:
        headers["Nats-Msg-Id"] = record.identity
    if record.ttl is not None:
        headers["Nats-TTL"] = str(max(1, math.ceil(record.ttl)))
    if record.deliver_at is not None:
        # Whole seconds are what the server keeps; a moment in the past comes due at once.
        moment = datetime.fromtimestamp(math.ceil(record.deliver_at), UTC)
        headers["Nats-Schedule"] = f"@at {moment:%Y-%m-%dT%H:%M:%SZ}"
        headers["Nats-Schedule-Target"] = record.deliver_to
    return headers


def _batch(identity: str, number: int) -> dict[str, str]:
    return {"Nats-Batch-Id": identity, "Nats-Batch-Sequence": str(number)}
