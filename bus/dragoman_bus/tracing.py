"""The trace that a message belongs to: of the active span, or of the message that caused it.

Spec: spec/model.md, ENV-15. OpenTelemetry is used where the program has loaded it and is never
required: its active span counts first, and a task's trace is made active while its skill runs, so
spans that a model's SDK records hang below the caller's.
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from typing import Any

from dragoman_bus.protocol.traces import TraceContext

__all__ = ["current_trace", "traced"]

_current: ContextVar[TraceContext | None] = ContextVar("dragoman trace", default=None)


def current_trace() -> TraceContext | None:
    """The trace that what is sent now belongs to; ``None`` when there is none."""
    telemetry: Any = sys.modules.get("opentelemetry.trace")
    if telemetry is not None:
        span = telemetry.get_current_span().get_span_context()
        if span.is_valid:
            return TraceContext(
                f"00-{span.trace_id:032x}-{span.span_id:016x}-{int(span.trace_flags):02x}",
                span.trace_state.to_header() or None,
            )
    return _current.get()


@contextlib.contextmanager
def traced(trace: TraceContext | None) -> Iterator[None]:
    """Make ``trace`` the current one, or none at all, also for OpenTelemetry where it is loaded."""
    token = _current.set(trace)
    detach = _activate(trace)
    try:
        yield
    finally:
        detach()
        _current.reset(token)


def _activate(trace: TraceContext | None) -> Callable[[], None]:
    if "opentelemetry.trace" not in sys.modules:
        return lambda: None
    from opentelemetry import context
    from opentelemetry import trace as telemetry

    span: telemetry.Span = telemetry.INVALID_SPAN
    if trace is not None:
        _, trace_id, span_id, flags = trace.traceparent.split("-")
        remote = telemetry.SpanContext(
            trace_id=int(trace_id, 16),
            span_id=int(span_id, 16),
            is_remote=True,
            trace_flags=telemetry.TraceFlags(int(flags, 16)),
            trace_state=telemetry.TraceState.from_header([trace.tracestate or ""]),
        )
        span = telemetry.NonRecordingSpan(remote)
    token = context.attach(telemetry.set_span_in_context(span))
    return lambda: context.detach(token)
