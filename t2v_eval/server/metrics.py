"""Measurements of a server, in the format of Prometheus."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_LATEST

from t2v_eval.server.batching import JobResult

CONTENT_TYPE = CONTENT_TYPE_LATEST
BATCH_SIZES = (1, 2, 4, 8, 16, 32, 64, 128, 256)


class Metrics:
    """Counters, gauges and histograms of one server.

    >>> metrics = Metrics()
    >>> metrics.count_request("/v1/score", 200, seconds=0.25)
    >>> b't2v_eval_requests_total{path="/v1/score",status="200"} 1.0' in metrics.text()
    True
    """

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        self._requests = Counter(
            "t2v_eval_requests",
            "Requests by path and HTTP status.",
            ["path", "status"],
            registry=self._registry,
        )
        self._seconds = Histogram(
            "t2v_eval_request_seconds",
            "Seconds from the first byte of a request to its answer.",
            ["path"],
            registry=self._registry,
        )
        self._cells = Counter(
            "t2v_eval_cells",
            "Cells that were answered, by scorer and outcome.",
            ["model", "outcome"],
            registry=self._registry,
        )
        self._batches = Histogram(
            "t2v_eval_batch_requests",
            "Requests that were scored together.",
            ["model"],
            buckets=BATCH_SIZES,
            registry=self._registry,
        )
        self._waiting = Gauge(
            "t2v_eval_waiting_requests",
            "Requests that wait for a scorer.",
            ["model"],
            registry=self._registry,
        )

    def count_request(self, path: str, status: int, seconds: float) -> None:
        """Count a request that was answered."""
        self._requests.labels(path, str(status)).inc()
        self._seconds.labels(path).observe(seconds)

    def watch(self, model: str, waiting: Callable[[], int]) -> None:
        """Report the length of a scorer's queue."""
        self._waiting.labels(model).set_function(waiting)

    def observe(self, model: str, requests: int, results: Sequence[JobResult]) -> None:
        """Count the cells of a batch of requests."""
        self._batches.labels(model).observe(requests)
        for result in results:
            cells, failed = sum(s.size for s in result.scores), len(result.failures)
            self._cells.labels(model, "scored").inc(cells - failed)
            self._cells.labels(model, "failed").inc(failed)

    def text(self) -> bytes:
        """Return all values as text."""
        return generate_latest(self._registry)
