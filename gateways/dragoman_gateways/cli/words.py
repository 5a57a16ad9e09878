"""Facts as words: durations, usage, models and receipts the way every command writes them."""

from __future__ import annotations

from datetime import datetime

from msgspec import UNSET, UnsetType

from dragoman_bus.protocol.envelopes import parse_source
from dragoman_bus.protocol.payloads import ModelIdentity, Receipt, Usage
from dragoman_bus.protocol.timestamps import parse_timestamp

__all__ = [
    "MODELS_OF_MEMBERS",
    "NO_MODEL",
    "clock_time",
    "duration",
    "list_time",
    "model_name",
    "plural",
    "short_digest",
    "short_instance",
    "source_name",
    "usage_words",
    "who",
]

NO_MODEL = "no language model"
MODELS_OF_MEMBERS = "those of its members"


def duration(seconds: float) -> str:
    """``340 µs``, ``12 ms``, ``3.4 s``, ``2 min 5 s``."""
    if seconds < 0.001:
        return f"{seconds * 1e6:.0f} µs"
    if seconds < 1:
        return f"{seconds * 1000:.0f} ms"
    if seconds < 60:
        return f"{seconds:.1f} s"
    return f"{int(seconds // 60)} min {int(seconds % 60)} s"


def clock_time(timestamp: str, *, fraction: bool = False) -> str:
    """A timestamp of the protocol in this machine's time: ``2026-11-27 22:10:03``."""
    moment = datetime.fromtimestamp(parse_timestamp(timestamp))
    text = f"{moment:%Y-%m-%d %H:%M:%S}"
    return f"{text}.{moment.microsecond // 1000:03d}" if fraction else text


def list_time(timestamp: str) -> str:
    """The time of a moment today; the day of an earlier one."""
    moment = datetime.fromtimestamp(parse_timestamp(timestamp))
    return f"{moment:%H:%M:%S}" if moment.date() == datetime.now().date() else f"{moment:%Y-%m-%d}"


def source_name(source: str) -> str:
    """``counter (0a1b2c3d)`` for an instance of an agent; else the name of the client."""
    instance = parse_source(source)
    if instance is None:
        return source.rpartition("/")[2]
    return f"{instance[0]} ({short_instance(instance[1])})"


def plural(count: int, noun: str, many: str | None = None) -> str:
    """``1 agent``, ``2 agents``; the number with thousands separated."""
    return f"{count:,} {noun if count == 1 else many or noun + 's'}"


def short_digest(digest: str) -> str:
    """The first twelve digits of a digest, enough to compare by eye."""
    return digest.removeprefix("sha256:")[:12]


def short_instance(instance: str) -> str:
    """The last eight characters of an instance id: its beginning is a time, its end is random."""
    return instance[-8:]


def model_name(model: ModelIdentity | UnsetType) -> str:
    """``provider/model``, or that no language model was used."""
    if isinstance(model, UnsetType):
        return NO_MODEL
    name = model.family if isinstance(model.model, UnsetType) else model.model
    return f"{model.provider}/{name}"


def who(receipt: Receipt | None) -> str:
    """Who answered: agent and instance."""
    if receipt is None:
        return "an agent that gave no receipt"
    return f"{receipt.agent} ({short_instance(receipt.instance)})"


def usage_words(usage: Usage | None) -> str:
    """Tokens and cost, as far as they are known; empty when nothing is."""
    if usage is None:
        return ""
    words = []
    tokens = (("in", usage.input_tokens), ("out", usage.output_tokens))
    known = [f"{count:,} {name}" for name, count in tokens if count is not UNSET]
    if known:
        words.append(f"{' + '.join(known)} tokens")
    if not isinstance(usage.cost, UnsetType):
        about = "about " if usage.source == "estimated" else ""
        words.append(f"{about}{usage.cost.amount:.6g} {usage.cost.currency}")
    return ", ".join(words)
