"""What is counted, for Prometheus."""

import math
from typing import Any

from gradood._io.optional import optional_module
from gradood.serve._arrays import Arrays

__all__ = ["Metrics"]

_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
_ROWS = (1, 2, 4, 8, 16, 32, 64, 128)


_GAUGES = (
    ("ready", "Whether requests are answered."),
    ("queue_items", "Inputs that wait or are computed."),
    ("expected_wait_seconds", "Time until a new request would be begun."),
    ("workers", "Workers that are alive."),
)


class Metrics:
    """Counters of one server, in a registry of its own.

    Raises:
        ModuleNotFoundError: prometheus-client is not installed.
    """

    def __init__(self) -> None:
        library: Any = optional_module(
            "prometheus_client",
            "prometheus-client",
            "counts requests",
            'pip install "gradood[serve]"',
        )
        self._library = library
        self.registry = registry = library.CollectorRegistry()
        counter, gauge, histogram = library.Counter, library.Gauge, library.Histogram
        self.requests = counter(
            *("gradood_requests", "Requests, by route and status."),
            ("route", "code"),
            registry=registry,
        )
        self.items = counter(
            *("gradood_items", "Inputs that were answered, by status."),
            ("status",),
            registry=registry,
        )
        self.flagged = counter(
            *("gradood_flagged", "Inputs decided to be out-of-distribution."),
            ("decision",),
            registry=registry,
        )
        self.seconds = histogram(
            *("gradood_request_seconds", "From a request's head to its answer."),
            buckets=_SECONDS,
            registry=registry,
        )
        self.batches = histogram(
            *("gradood_batch_items", "Inputs computed at once."), buckets=_ROWS, registry=registry
        )
        self.batch_seconds = histogram(
            *("gradood_batch_seconds", "Time of a batch with its worker."),
            buckets=_SECONDS,
            registry=registry,
        )
        self.deaths = counter(
            *("gradood_worker_deaths", "Workers that ended on a batch."), registry=registry
        )
        self.swaps = counter(
            *("gradood_swaps", "Exchanges of the detector, by outcome."),
            ("outcome",),
            registry=registry,
        )
        self._gauges = {
            name: gauge(f"gradood_{name}", text, registry=registry) for name, text in _GAUGES
        }
        self._info = gauge(
            *("gradood_served", "1 for the version that is served."),
            ("version",),
            registry=registry,
        )
        self._watch: dict[str, Any] = {}

    def set(self, **values: float) -> None:
        """Set gauges by their names without the prefix."""
        for name, value in values.items():
            self._gauges[name].set(value)

    def serving(self, version: str) -> None:
        """Another version is served."""
        self._info.clear()
        self._info.labels(version).set(1)

    def answered(self, arrays: Arrays) -> None:
        """Count the rows of an answer."""
        statuses = [value.decode() for value in arrays["status"][1]]
        for status in set(statuses):
            self.items.labels(status).inc(statuses.count(status))
        for name, (_, values) in arrays.items():
            if name == "is_ood" or name.endswith(".is_ood"):
                head = name.removesuffix("is_ood").removesuffix(".") or "decision"
                self.flagged.labels(head).inc(int(values.sum()))

    def watched(self, alarm: bool, warnings: int, evidence: float, level: float, seen: int) -> None:
        """Set what a watch says."""
        values = {
            "alarm": (float(alarm), "Whether the alarm is raised."),
            "warnings": (warnings, "Warnings so far."),
            "evidence_log10": (math.log10(max(evidence, 1e-300)), "Evidence, as a power of ten."),
            "level_log10": (math.log10(level), "Evidence at which the alarm is raised."),
            "items": (seen, "Inputs that were taken in."),
        }
        for name, (value, text) in values.items():
            if name not in self._watch:
                made = self._library.Gauge(f"gradood_watch_{name}", text, registry=self.registry)
                self._watch[name] = made
            self._watch[name].set(value)

    def page(self) -> tuple[bytes, str]:
        """All of it as text, and the type of that."""
        return self._library.generate_latest(self.registry), self._library.CONTENT_TYPE_LATEST
