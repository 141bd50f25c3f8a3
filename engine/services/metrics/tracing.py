"""OpenTelemetry spans of a task: submit, wait and run, below the caller's own trace.

Only with the extra `otel`, and where spans have somewhere to go: the standard variable OTEL_EXPORTER_OTLP_ENDPOINT
(or OTEL_EXPORTER_OTLP_TRACES_ENDPOINT) is set, or whoever started this process has set a tracer provider up.

The spans of the wait and the run are made after the end of the task, from its record and outcome, so that workers need
to know nothing of tracing. Only the API process that leads the deliveries makes them, so that none is made twice.
"""

import os
from typing import Any

from engine.core.task.stored_task import StoredTask

ENDPOINTS = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")


def found() -> "Tracing | None":
    """Return how spans are made here; None if none are wanted. Raises `ImportError` if the extra is missing."""
    if any(os.environ.get(name) for name in ENDPOINTS):
        return Tracing(_exporting(), owns=True)
    try:
        from opentelemetry import trace
    except ImportError:
        return None
    provider = trace.get_tracer_provider()
    return None if isinstance(provider, trace.ProxyTracerProvider | trace.NoOpTracerProvider) else Tracing(provider)


def _exporting() -> Any:
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor

    provider = TracerProvider(resource=Resource.create({"service.name": os.environ.get("OTEL_SERVICE_NAME", "ganger")}))
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    return provider


class Tracing:
    """Makes spans with a tracer provider; `owns` it: flushes it at the end."""

    def __init__(self, provider: Any, *, owns: bool = False) -> None:
        from opentelemetry import context, trace
        from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

        self._provider, self._owns, self._tracer = provider, owns, provider.get_tracer("ganger")
        self._otel, self._context, self._propagator = trace, context, TraceContextTextMapPropagator()

    def submitted(self, traceparent: str | None, task_type: str) -> str | None:
        """Make the span of a submit; return the trace context for the task, which is the caller's if nobody records."""
        span = self._tracer.start_span(
            f"submit {task_type}", context=self._parent(traceparent), kind=self._otel.SpanKind.PRODUCER,
            attributes={"messaging.system": "ganger", "ganger.task_type": task_type})
        span.end()
        if not span.get_span_context().is_valid:
            return traceparent
        carrier: dict[str, str] = {}
        self._propagator.inject(carrier, self._otel.set_span_in_context(span, self._context.Context()))
        return carrier.get("traceparent", traceparent)

    def ended(self, stored: StoredTask) -> None:
        """Make the spans of the wait and the last run of a task that has a trace context."""
        record, outcome = stored.record, stored.outcome or {}
        traceparent = record.options.get("traceparent")
        started_ms, ended_ms = outcome.get("started_ms"), outcome.get("ended_ms")
        if traceparent is None or started_ms is None or ended_ms is None:
            return
        facts = {"messaging.system": "ganger", "ganger.task_id": stored.id, "ganger.task_type": record.task_type,
                 "ganger.queue": record.queue, "ganger.run": stored.state.run}
        parent = self._parent(traceparent)
        if stored.state.run == 1:
            ready_ms = max(record.created_ms, record.options.get("due_ms", 0))
            self._span("wait", parent, min(ready_ms, started_ms), started_ms, facts)  # by clocks of two processes
        facts |= {"ganger.cause": str(outcome.get("cause")), "ganger.worker": str(outcome.get("worker")),
                  "ganger.cpu_s": outcome.get("cpu_s") or 0.0}
        self._span("run", parent, started_ms, ended_ms, facts, outcome.get("error"))

    def close(self) -> None:
        """Send what has not been sent yet; blocks for a few seconds at most."""
        if self._owns:
            self._provider.shutdown()

    def _span(self, name: str, parent: Any, start_ms: float, end_ms: float, facts: dict[str, Any],
              error: dict[str, Any] | None = None) -> None:
        start_ns = _ns(start_ms)
        span = self._tracer.start_span(f"{name} {facts['ganger.task_type']}", context=parent, attributes=facts,
                                       kind=self._otel.SpanKind.CONSUMER, start_time=start_ns)
        if error:
            span.set_status(self._otel.Status(self._otel.StatusCode.ERROR, error.get("message")))
        span.end(max(start_ns, _ns(end_ms)))

    def _parent(self, traceparent: str | None) -> Any:
        carrier = {"traceparent": traceparent} if traceparent else {}
        return self._propagator.extract(carrier, self._context.Context())


def _ns(moment_ms: float) -> int:
    return int(moment_ms * 1000) * 1000
