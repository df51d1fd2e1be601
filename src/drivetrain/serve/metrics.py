"""What the server counts, in Prometheus's form; right also where several processes answer on one port."""

from __future__ import annotations

import os
from collections.abc import Iterable
from functools import cache
from pathlib import Path
from typing import Literal, Protocol, get_args

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    ProcessCollector,
    disable_created_metrics,
    generate_latest,
)
from prometheus_client import values as prometheus_values
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4
from prometheus_client.multiprocess import MultiProcessCollector
from prometheus_client.values import MultiProcessValue

from drivetrain.runtime.batch_types import Outcome, Stage
from drivetrain.runtime.prediction import Answer, MultiLabelPrediction, Prediction

__all__ = ["CLASSES_SHOWN", "METRICS_TYPE", "Metrics", "ModelMeter", "ModelState", "RolloutFamilies", "share_metrics"]

CLASSES_SHOWN = 100  # of a model, in the bundle's order; each is a time series for ever, so the rest are "other"
METRICS_TYPE = CONTENT_TYPE_PLAIN_0_0_4
_OTHER = "other"
_MODEL = ("model_name", "model_version")
_OUTCOMES: tuple[Outcome, ...] = get_args(Outcome)
_STAGES: tuple[Stage, ...] = get_args(Stage)
_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)
_SIZES = (1, 2, 4, 8, 16, 32, 64, 128)
_SHARES = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.99, 1.0)
_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
_FOLDER = "PROMETHEUS_MULTIPROC_DIR"  # the library's own name for it


class ModelState(Protocol):
    """What is told of a model that is served."""

    @property
    def name(self) -> str: ...

    @property
    def version(self) -> str:
        """As in answers: `bears@0123456789ab`."""
        ...

    @property
    def digest(self) -> str: ...


def share_metrics(folder: Path, *, slot: int) -> None:
    """Count in files of `folder` from here on, for a process that is number `slot` of several.

    The files bear the number, not the process id: a worker that is started again goes on where the dead one stopped,
    so no counter falls and no file is left over. Call it before the first Metrics is made.
    """
    os.environ[_FOLDER] = str(folder)
    prometheus_values.ValueClass = MultiProcessValue(lambda: slot)  # type: ignore[no-untyped-call]


class Metrics:
    """All counters of one app, in a registry of its own."""

    def __init__(self) -> None:
        disable_created_metrics()  # type: ignore[no-untyped-call]  # a second series for each counter, read by nobody
        self.registry = CollectorRegistry()
        self._is_shared = bool(getattr(prometheus_values.ValueClass, "_multiprocess", False))
        if not self._is_shared:
            ProcessCollector(registry=self.registry)  # memory, processor time, open files
        self._meters: dict[tuple[str, str], ModelMeter] = {}
        self._told: set[tuple[str, str, str]] = set()
        self._http = _HttpFamilies(self.registry)
        self._of_models = _ModelFamilies(self.registry)
        self._feedback = Counter(
            "drivetrain_feedback", "Verdicts of callers on answers.", ["verdict"], registry=self.registry
        )

        self.rollouts = RolloutFamilies(self.registry)

    def meter(self, model_name: str, model_version: str) -> ModelMeter:
        """What the batcher of this model tells; the same object for the same model."""
        key = (_plain(model_name), _version_of(model_name, model_version))
        if key not in self._meters:
            self._meters[key] = ModelMeter(self._of_models, *key)
        return self._meters[key]

    def request_begun(self) -> None:
        """A request's headers are read."""
        self._http.in_progress.inc()

    def request_ended(self, *, route: str, method: str, code: str, seconds: float) -> None:
        """Its answer is out, or its client has left."""
        self._http.in_progress.dec()
        self._http.of(route, method if method in _METHODS else "OTHER", code).inc()
        self._http.seconds_of(route).observe(seconds)

    def malformed(self, code: int) -> None:
        """A client sent what is no HTTP, or no end of it, and was told so: no route ever saw it."""
        self._http.requests.labels("malformed", "OTHER", str(code)).inc()

    def inference(self, *, model_name: str, model_version: str, outcome: Outcome) -> None:
        """A request for answers ended so; names are empty where it failed before a model was found for it."""
        version = _version_of(model_name, model_version) if model_name else ""
        self._of_models.requests_of(_plain(model_name), version, outcome).inc()

    def feedback(self, verdict: str) -> None:
        """A caller said of an answer: right, wrong or unsure."""
        self._feedback.labels(verdict).inc()

    def webhook(self, event: str, outcome: Literal["sent", "failed", "dropped"]) -> None:
        """What became of one."""
        self.rollouts.webhooks.labels(event, outcome).inc()

    def tell_models(self, models: Iterable[tuple[ModelState, bool]]) -> None:
        """Which models answer now, and whether each is ready; those told before and gone fall to 0."""
        now: dict[tuple[str, str, str], bool] = {}
        for model, is_ready in models:
            now[_plain(model.name), _version_of(model.name, model.version), model.digest] = is_ready
        for key in self._told | set(now):
            self._of_models.info.labels(*key).set(key in now)
            self._of_models.ready.labels(*key[:2]).set(now.get(key, False))
        self._told |= set(now)

    def render(self) -> bytes:
        """Everything, of all processes together, as Prometheus reads it."""
        if not self._is_shared:
            return generate_latest(self.registry)
        together = CollectorRegistry()
        MultiProcessCollector(together, path=os.environ[_FOLDER])  # type: ignore[no-untyped-call]
        return generate_latest(together)


class ModelMeter:
    """The counters of one version of one model; the batcher's `Meter`. Safe to call from every thread."""

    def __init__(self, families: _ModelFamilies, name: str, version: str) -> None:
        labels = (name, version)
        self._labels = labels
        self._pending = families.pending.labels(*labels)
        self._batches = families.batches.labels(*labels)
        self._sizes = families.sizes.labels(*labels)
        self._stages = {stage: families.stages[stage].labels(*labels) for stage in _STAGES}
        self._items = {outcome: families.items.labels(*labels, outcome) for outcome in _OUTCOMES}
        self._confidence = families.confidence.labels(*labels)
        self._unknown = families.unknown.labels(*labels)
        self._abstained = families.abstained.labels(*labels)
        self._shown: frozenset[str] = frozenset()
        self._predictions = cache(lambda shown: families.predictions.labels(*labels, shown))

    def pending(self, items: int) -> None:
        """So many more wait or are in work; fewer where it is negative."""
        self._pending.inc(items)

    def stage(self, stage: Stage, seconds: float) -> None:
        """One item, or one batch, spent this long in it."""
        self._stages[stage].observe(seconds)

    def batch(self, size: int) -> None:
        """One run of the network on so many pictures."""
        self._batches.inc()
        self._sizes.observe(size)

    def finished(self, outcome: Outcome, answer: Answer | None) -> None:
        """One item has its answer or its error."""
        self._items[outcome].inc()
        if answer is None:
            return
        if "unknown" in answer.reasons:
            self._unknown.inc()
        if answer.decision == "defer":
            self._abstained.inc()
        if isinstance(answer, Prediction):
            self._predicted(answer, (answer.label,))
        elif isinstance(answer, MultiLabelPrediction):
            self._predicted(answer, answer.labels)

    def _predicted(self, answer: Prediction | MultiLabelPrediction, labels: tuple[str, ...]) -> None:
        if not self._shown:
            self._shown = frozenset(list(answer.probabilities)[:CLASSES_SHOWN])
        for label in labels:
            shown = _plain(label) if label in self._shown else _OTHER
            self._predictions(shown).inc()
            self._confidence.observe(answer.probabilities[label])


class _HttpFamilies:
    def __init__(self, registry: CollectorRegistry) -> None:
        self.requests = Counter(
            "drivetrain_http_requests",
            "Answers, errors and requests that are no HTTP included.",
            ["route", "method", "code"],
            registry=registry,
        )
        self.seconds = Histogram(
            "drivetrain_http_request_duration_seconds",
            "From a request's headers to the end of its answer.",
            ["route"],
            buckets=_SECONDS,
            registry=registry,
        )
        self.in_progress = Gauge(
            "drivetrain_http_requests_in_progress",
            "Requests without a whole answer.",
            multiprocess_mode="livesum",
            registry=registry,
        )
        self.of = cache(self.requests.labels)  # the library looks them up under a lock, and reads them as text first
        self.seconds_of = cache(self.seconds.labels)


class RolloutFamilies:
    """Of roll-outs: who decided, what waits, and what went wrong."""

    def __init__(self, registry: CollectorRegistry) -> None:
        def counter(name: str, text: str, *labels: str) -> Counter:
            return Counter(f"drivetrain_{name}", text, list(labels), registry=registry)

        def gauge(name: str, text: str, *labels: str) -> Gauge:
            # what each process reads from one database: the newest reading is the right one
            return Gauge(
                f"drivetrain_{name}", text, list(labels), multiprocess_mode="livemostrecent", registry=registry
            )

        self.requests = counter("rollout_requests", "Pictures that were routed.", "deployment", "decided_by")
        self.unstored = counter("rollout_unstored", "Answered without the roll-out: not to be stored.", "deployment")
        self.shadows = counter("rollout_shadows", "Asked in shadow, by outcome.", "deployment", "outcome")
        self.rollbacks = counter("rollout_rollbacks", "Taken back by this server, for harm.", "deployment")
        self.webhooks = counter("webhooks", "Webhooks, by what became of them.", "event", "outcome")
        self.backlog = gauge("rollout_backlog", "Requests that one of the two has still to see.", "deployment")
        self.stage = gauge("rollout_stage", "1 for the stage that it stands at.", "deployment", "stage")
        self.share = gauge("rollout_share", "Of the keys, those that the candidate decides.", "deployment")


class _ModelFamilies:
    def __init__(self, registry: CollectorRegistry) -> None:
        def counter(name: str, text: str, *labels: str) -> Counter:
            return Counter(f"drivetrain_{name}", text, [*_MODEL, *labels], registry=registry)

        def histogram(name: str, text: str, buckets: tuple[float, ...]) -> Histogram:
            return Histogram(f"drivetrain_{name}", text, _MODEL, buckets=buckets, registry=registry)

        def gauge(name: str, text: str, mode: Literal["livesum", "livemin", "livemax"], *labels: str) -> Gauge:
            names = [*_MODEL, *labels]
            return Gauge(f"drivetrain_{name}", text, names, multiprocess_mode=mode, registry=registry)

        self.requests = counter("inference_requests", "Requests for answers, by how they ended.", "outcome")
        self.requests_of = cache(self.requests.labels)
        self.items = counter("inference_items", "Pictures, by how they ended.", "outcome")
        self.batches = counter("inference_batches", "Runs of the network.")
        self.sizes = histogram("inference_batch_size", "Pictures in a run of the network.", _SIZES)
        self.pending = gauge("inference_pending_items", "Pictures waiting or in work.", "livesum")
        self.stages = {
            stage: histogram(f"inference_{stage}_duration_seconds", f"Time in the stage {stage}.", _SECONDS)
            for stage in _STAGES
        }
        self.info = gauge("model_info", "1 for each version that answers, 0 once it has gone.", "livemax", "digest")
        # one process that is not ready is told, also where the others are
        self.ready = gauge("model_ready", "1 where the version answers in every process.", "livemin")
        self.predictions = counter("predictions", f"Answers by class; the first {CLASSES_SHOWN}.", "predicted_class")
        self.confidence = histogram("prediction_confidence", "Calibrated probability of the answer.", _SHARES)
        self.unknown = counter("out_of_domain", "Answers on pictures unlike what the model knows.")
        self.abstained = counter("abstained", "Answers that a person should look at.")


def _version_of(name: str, version: str) -> str:
    """As answers tell it, name@digits, also where only the digits were given."""
    return _plain(version if "@" in version else f"{name}@{version}")


def _plain(text: str) -> str:
    """A class name comes from a bundle: half a surrogate pair in it must not break the page of all counters."""
    return text.encode("utf-8", "replace").decode("utf-8")
