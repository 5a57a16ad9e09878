"""Bytes to messages and back, strictly, with limits on size.

Spec: spec/model.md, envelope; spec/errors.md. One message is one JSON document in UTF-8.
"""

from __future__ import annotations

import msgspec

from dragoman_bus.protocol.errors import ProtocolError
from dragoman_bus.protocol.messages import MESSAGE_TYPES, AnyMessage, Envelope, is_flat
from dragoman_bus.protocol.nesting import MAXIMUM_DEPTH, is_too_deep
from dragoman_bus.protocol.versions import SUPPORTED_VERSIONS, is_supported, is_version

__all__ = ["MAXIMUM_MESSAGE_BYTES", "Outline", "decode", "encode", "outline"]

MAXIMUM_MESSAGE_BYTES = 8 * 1024 * 1024
"""What a decoder accepts at most; a server's ``max_payload`` is usually lower."""

_decoder: msgspec.json.Decoder[AnyMessage] = msgspec.json.Decoder(AnyMessage)
_encoder = msgspec.json.Encoder()


class Outline(msgspec.Struct):
    """The few attributes that can be read even of a message that is not valid."""

    type: str = ""
    protocolversion: str = ""
    task_id: str | None = None


class _LooseEnvelope(msgspec.Struct):
    type: msgspec.Raw = msgspec.Raw(b'""')
    protocolversion: msgspec.Raw = msgspec.Raw(b'""')
    data: msgspec.Raw = msgspec.Raw(b"{}")


class _LooseData(msgspec.Struct):
    taskId: msgspec.Raw = msgspec.Raw(b'""')


def encode(message: Envelope) -> bytes:
    """The JSON document of ``message``, as bytes.

    Raises:
        ProtocolError: it holds what JSON cannot carry, such as half a character.
    """
    try:
        return _encoder.encode(message)
    except (msgspec.MsgspecError, TypeError, ValueError, OverflowError, RecursionError) as error:
        raise ProtocolError(f"the message cannot be written as JSON: {error}") from None


def decode(data: bytes, *, maximum_bytes: int = MAXIMUM_MESSAGE_BYTES) -> AnyMessage:
    """The message in ``data``.

    Raises:
        ProtocolError: with code ``PAYLOAD_TOO_LARGE``, ``UNSUPPORTED_VERSION``, ``UNKNOWN_TYPE``
            or ``INVALID_MESSAGE``; the message names the failing path where there is one.
    """
    if len(data) > maximum_bytes:
        raise ProtocolError(
            f"the message has {len(data)} bytes, at most {maximum_bytes} are accepted",
            code="PAYLOAD_TOO_LARGE",
        )
    try:
        message = _decoder.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise _refusal(data, error) from None
    # To count the levels of every short text would cost a tenth of its decoding.
    if not is_flat(message) and is_too_deep(data):
        raise ProtocolError(
            f"the document is nested more than {MAXIMUM_DEPTH} levels deep",
            task_id=outline(data).task_id,
        )
    return message


def outline(data: bytes) -> Outline:
    """What can be read of a message that may be invalid; never raises."""
    try:
        loose = msgspec.json.decode(data, type=_LooseEnvelope)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return Outline()
    return Outline(
        type=_text(loose.type),
        protocolversion=_text(loose.protocolversion),
        task_id=_task_id(loose.data),
    )


def _text(raw: msgspec.Raw) -> str:
    try:
        return msgspec.json.decode(raw, type=str)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return ""


def _task_id(raw: msgspec.Raw) -> str | None:
    try:
        return _text(msgspec.json.decode(raw, type=_LooseData).taskId) or None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None


def _refusal(data: bytes, error: Exception) -> ProtocolError:
    seen = outline(data)
    # spec/versioning.md: the version is judged before the type, since a later major version
    # may have types that this one cannot know.
    if is_version(seen.protocolversion) and not is_supported(seen.protocolversion):
        return ProtocolError(
            f"protocol version {seen.protocolversion} is not supported here",
            code="UNSUPPORTED_VERSION",
            details={"supportedVersions": list(SUPPORTED_VERSIONS)},
            task_id=seen.task_id,
        )
    if seen.type and seen.type not in MESSAGE_TYPES:
        return ProtocolError(
            f"messages of type {seen.type[:128]!r} are not known here",
            code="UNKNOWN_TYPE",
            task_id=seen.task_id,
        )
    return ProtocolError(f"not a valid message: {_explain(error)}", task_id=seen.task_id)


def _explain(error: Exception) -> str:
    if isinstance(error, RecursionError):
        return "nested too deeply"
    if isinstance(error, UnicodeDecodeError):
        return "not valid UTF-8"
    return str(error)[:1024]
