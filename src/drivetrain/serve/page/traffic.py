"""What the admin's page tells of traffic: the counters of /metrics, of all processes, as numbers for a person."""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

from prometheus_client.parser import text_string_to_metric_families

__all__ = ["ModelTraffic", "Traffic", "TrafficWatch"]

_KEPT = 60  # looks back; one every few seconds while someone looks
_ANSWERS = ("/predict", "/v2/models/{model}/infer", "/")
_PARTS = (0.5, 0.95, 0.99)

Counted = Mapping[str, list[tuple[Mapping[str, str], float]]]  # name of a sample -> (labels, value)


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelTraffic:
    """One version of one model."""

    name: str
    version: str
    is_ready: bool
    pending: int
    pictures: int  # answered
    failed: int
    deferred: float | None  # share of those answered
    unknown: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Traffic:
    """Since the server began, but for `rate` and `line`."""

    requests: int
    in_progress: int
    rate: float | None  # requests a second since the last look
    line: str  # points of a polyline in a box of 100 x 24; empty before there are two rates
    refused: int  # 4xx
    failed: int  # 5xx
    seconds: Sequence[tuple[str, float | None]]  # (p50 and so on, seconds) of requests for answers
    models: Sequence[ModelTraffic]
    verdicts: Mapping[str, int]  # of callers, since the server began
    classes: Sequence[tuple[str, int]]  # most answered first


@dataclass(slots=True)
class TrafficWatch:
    """Remembers what was counted at earlier looks."""

    clock: Callable[[], float] = time.monotonic
    _looks: deque[tuple[float, float]] = field(default_factory=lambda: deque(maxlen=_KEPT))

    def look(self, text: str) -> Traffic:
        """From the text of /metrics."""
        counted = _read(text)
        requests = counted.get("drivetrain_http_requests_total", [])
        total = sum(value for _, value in requests)
        now = self.clock()
        if not self._looks or now > self._looks[-1][0]:
            self._looks.append((now, total))
        rates = self._rates()
        return Traffic(
            requests=int(total),
            in_progress=int(_sum(counted, "drivetrain_http_requests_in_progress")),
            rate=rates[-1] if rates else None,
            line=_line(rates),
            refused=int(sum(value for labels, value in requests if labels.get("code", "").startswith("4"))),
            failed=int(sum(value for labels, value in requests if labels.get("code", "").startswith("5"))),
            seconds=_percentiles(counted.get("drivetrain_http_request_duration_seconds_bucket", [])),
            models=_models(counted),
            verdicts={labels["verdict"]: int(value) for labels, value in counted.get("drivetrain_feedback_total", [])},
            classes=_classes(counted),
        )

    def _rates(self) -> list[float]:
        looks = list(self._looks)
        return [max(0.0, after[1] - before[1]) / (after[0] - before[0]) for before, after in pairwise(looks)]


def _read(text: str) -> Counted:
    found: dict[str, list[tuple[Mapping[str, str], float]]] = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            found.setdefault(sample.name, []).append((sample.labels, sample.value))
    return found


def _sum(counted: Counted, name: str, **wanted: str) -> float:
    return sum(
        value
        for labels, value in counted.get(name, [])
        if all(labels.get(label) == is_so for label, is_so in wanted.items())
    )


def _models(counted: Counted) -> list[ModelTraffic]:
    rows = []
    for labels, is_there in counted.get("drivetrain_model_info", []):
        if not is_there:
            continue
        of = {name: labels[name] for name in ("model_name", "model_version")}
        pictures = _sum(counted, "drivetrain_inference_items_total", **of, outcome="success")
        rows.append(
            ModelTraffic(
                name=of["model_name"],
                version=of["model_version"],
                is_ready=_sum(counted, "drivetrain_model_ready", **of) > 0,
                pending=int(_sum(counted, "drivetrain_inference_pending_items", **of)),
                pictures=int(pictures),
                failed=int(_sum(counted, "drivetrain_inference_items_total", **of) - pictures),
                deferred=_sum(counted, "drivetrain_abstained_total", **of) / pictures if pictures else None,
                unknown=_sum(counted, "drivetrain_out_of_domain_total", **of) / pictures if pictures else None,
            )
        )
    return sorted(rows, key=lambda row: (row.name, row.version))


def _classes(counted: Counted) -> list[tuple[str, int]]:
    sums: dict[str, int] = {}
    for labels, value in counted.get("drivetrain_predictions_total", []):
        label = labels["predicted_class"]
        sums[label] = sums.get(label, 0) + int(value)
    return sorted(sums.items(), key=lambda row: -row[1])[:12]


def _percentiles(buckets: Iterable[tuple[Mapping[str, str], float]]) -> list[tuple[str, float | None]]:
    """From cumulative counts; within a bucket as if spread evenly, and no more than the last finite edge."""
    sums: dict[float, float] = {}
    for labels, value in buckets:
        if labels.get("route") in _ANSWERS:
            edge = float(labels["le"])
            sums[edge] = sums.get(edge, 0.0) + value
    edges = sorted(sums)
    total = sums[edges[-1]] if edges else 0.0
    return [(f"p{100 * part:.0f}", _percentile(edges, sums, part * total) if total else None) for part in _PARTS]


def _percentile(edges: Sequence[float], sums: Mapping[float, float], wanted: float) -> float:
    low, below = 0.0, 0.0
    for edge in edges:
        if sums[edge] >= wanted:
            if math.isinf(edge):
                return low
            inside = sums[edge] - below
            return low + (edge - low) * ((wanted - below) / inside if inside else 1.0)
        low, below = edge, sums[edge]
    return low


def _line(rates: Sequence[float]) -> str:
    if len(rates) < 2:
        return ""
    most = max(rates) or 1.0
    step = 100 / (len(rates) - 1)
    return " ".join(f"{at * step:.1f},{22 - 20 * rate / most:.1f}" for at, rate in enumerate(rates))
