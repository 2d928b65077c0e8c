"""Telemetry of requests: a structured log line each, and metrics and traces if switched on.

It never contains a key, an image or a URL's query; of the key, only the prefix.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from aws_lambda_powertools import Logger
from aws_lambda_powertools.metrics import EphemeralMetrics, MetricUnit

from carsight_service.contract.api import Api
from carsight_service.contract.errors import Ending

if TYPE_CHECKING:
    from aws_lambda_powertools import Tracer

NAMESPACE = "Carsight"
"""CloudWatch namespace of all metrics; their dimensions are ``service`` and ``api``.

``Requests``, ``ColdStarts`` and each ``Ending``: 0 or 1 for each request, so that an average is a share.
``KeysLatency``, ``LoadLatency``, ``DecodeLatency``, ``ReadLatency``, ``TotalLatency``: milliseconds.
"""

SERVICE = "carsight"

logger = Logger(service=SERVICE, utc=True, serialize_stacktrace=False)
"""Writes one JSON object per line. The level is ``POWERTOOLS_LOG_LEVEL``, by default INFO."""

# Modules of this package use the standard library's logging, with the same output.
_package = logging.getLogger(__package__)
_package.handlers[:] = logger.handlers
_package.setLevel(logger.log_level)
_package.propagate = False

Timer = Callable[[], float]
"""Returns seconds since a fixed moment, as ``time.perf_counter`` does."""


@dataclass(frozen=True, slots=True)
class _Stopwatch:
    timer: Timer
    stages: dict[str, float] = field(default_factory=dict)


_running: ContextVar[_Stopwatch] = ContextVar("stopwatch")
_tracer: Tracer | None = None
_cold = True


def trace() -> None:
    """Send each stage to X-Ray as a subsegment from now on."""
    from aws_lambda_powertools import Tracer  # imports the X-Ray SDK, which most deployments do not need

    global _tracer
    # Calls to AWS are traced as well. Other HTTP is not: a caller's URLs must not get into traces or logs.
    _tracer = Tracer(service=SERVICE, patch_modules=("botocore",))


@contextmanager
def timed(timer: Timer = time.perf_counter) -> Iterator[dict[str, float]]:
    """Collect the milliseconds of each ``stage`` in the block, in this thread or one with its context."""
    stopwatch = _Stopwatch(timer)
    token = _running.set(stopwatch)
    try:
        yield stopwatch.stages
    finally:
        _running.reset(token)


@contextmanager
def stage(name: str) -> Iterator[None]:
    """Time a stage of a request (``keys``, ``load``, ``decode``, ``read``), and trace it if tracing is on."""
    stopwatch = _running.get(None) or _Stopwatch(time.perf_counter)
    start = stopwatch.timer()
    try:
        with _tracer.provider.in_subsegment(name) if _tracer else nullcontext():
            yield
    finally:
        milliseconds = (stopwatch.timer() - start) * 1000
        stopwatch.stages[name] = stopwatch.stages.get(name, 0.0) + milliseconds


def record(
    api: Api, ending: Ending, stages: Mapping[str, float], fields: Mapping[str, Any], *, metrics: bool
) -> None:
    """Log one answered request and, with ``metrics``, count it as CloudWatch metrics.

    ``stages`` are milliseconds by stage, including ``total``; ``fields`` are the other fields of the log
    line.
    """
    global _cold
    cold, _cold = _cold, False
    timings = {name: round(milliseconds, 3) for name, milliseconds in stages.items()}
    write = logger.error if ending is Ending.FAULT else logger.info
    write("answered", extra={"api": api.value, **fields, "cold_start": cold, "ms": timings})
    if metrics:
        _count(api, ending, cold, timings)


def _count(api: Api, ending: Ending, cold: bool, timings: Mapping[str, float]) -> None:
    """Write one request's metrics, in CloudWatch's embedded metric format."""
    metrics = EphemeralMetrics(namespace=NAMESPACE, service=SERVICE)
    metrics.add_dimension("api", api.value)
    metrics.add_metric("Requests", MetricUnit.Count, 1)
    for possible in Ending:
        metrics.add_metric(possible.value, MetricUnit.Count, int(ending is possible))
    metrics.add_metric("ColdStarts", MetricUnit.Count, int(cold))
    for name, milliseconds in timings.items():
        metrics.add_metric(f"{name.capitalize()}Latency", MetricUnit.Milliseconds, milliseconds)
    metrics.flush_metrics()
