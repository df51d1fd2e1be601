"""Certify: new labelled pictures for a model's calibration, its strangeness and its promise. Nothing is trained."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from drivetrain.arrays import FloatArray, IntArray
from drivetrain.bundle.archive import Bundle, read_bundle, write_bundle
from drivetrain.bundle.arrays import write_arrays
from drivetrain.bundle.fixtures import Fixture, pack, read_spreads, unpack
from drivetrain.data.lineage import digest_items
from drivetrain.errors import InvalidConfig, InvalidInput
from drivetrain.flows.calibrate import Calibration, HeldOut, calibrate_held_out
from drivetrain.flows.certify_card import amend_card
from drivetrain.flows.certify_data import Asked, ask_model, read_labelled
from drivetrain.flows.evaluate import AnyEvaluation, evaluate_answers
from drivetrain.flows.fit_known import Known, rank_scores
from drivetrain.flows.fit_shift import Shift, fit_shift
from drivetrain.flows.policy_options import PolicyOptions
from drivetrain.flows.trained_on import CALIBRATED_ON, TRAINED_ON, pack_digests
from drivetrain.imaging.decode import DecodeLimits
from drivetrain.progress import Progress
from drivetrain.runtime.decision import open_policy
from drivetrain.runtime.known import KnownRule
from drivetrain.runtime.predictor import Predictor
from drivetrain.runtime.session import Session
from drivetrain.runtime.shifted import ShiftRule
from drivetrain.settings import Settings
from drivetrain.task import Task
from drivetrain.trust.deferral import labels_needed

__all__ = ["CertifyConfig", "CertifyResult", "certify"]

_LEAST_FOR_COSTS = 60  # pictures: half of them fit a temperature
_LEAST_FOR_INTERVALS = 38  # half of them measure an interval of 95 %


@dataclass(frozen=True, slots=True, kw_only=True)
class CertifyConfig:
    """What a run is told."""

    model: Path
    data: Path
    out: Path  # NAME.dt
    options: Mapping[str, Any]  # of PolicyOptions, those given; the others stay as the model has them

    def __post_init__(self) -> None:
        if self.out.suffix != ".dt" or not self.out.stem or self.out.is_dir():
            raise InvalidConfig("-o", got=str(self.out), want="a file NAME.dt", hint="Example: -o bears-2.dt")
        if self.out.exists() and self.model.exists() and self.out.samefile(self.model):
            raise InvalidConfig("-o", got=f"{self.out}, the model itself", want="another file: the old one stays")
        PolicyOptions(**self.options)


@dataclass(frozen=True, slots=True, kw_only=True)
class CertifyResult:
    """What came of it."""

    bundle: Path
    version: str
    digest: str
    parent: str  # version of the model that was certified anew
    task: Task
    n: int  # pictures that it rests on
    evaluation: AnyEvaluation
    statement: str
    before: str  # what the parent stated
    unreadable: tuple[tuple[str, str], ...]  # (path, reason)
    notes: tuple[str, ...]
    seconds: float

    def as_json(self) -> dict[str, Any]:
        """Plain values for `--json`."""
        return {
            "bundle": str(self.bundle),
            "version": self.version,
            "digest": self.digest,
            "parent": self.parent,
            "task": self.task,
            "n": self.n,
            "statement": self.statement,
            "before": self.before,
            "unreadable": [{"path": path, "reason": reason} for path, reason in self.unreadable],
            "notes": list(self.notes),
            "seconds": self.seconds,
            "evaluation": self.evaluation.as_json(),
        }


def certify(config: CertifyConfig, *, settings: Settings, progress: Progress) -> CertifyResult:
    """Refit calibration, the references of the strange and the promise to LABELLED, and write them as a new bundle.

    The network's bytes stay. Raises DrivetrainError before anything is written: for a model that is refused, data of
    another task or with unknown labels, or too few pictures for what is to be promised.
    """
    begun = time.monotonic()
    limits = DecodeLimits(max_bytes=settings.image_max_bytes, max_pixels=settings.image_max_pixels)
    parent = read_bundle(config.model)
    predictor = Predictor(parent, limits=limits, threads=settings.worker_threads)
    options = _choose_options(parent, config.options)
    options.check_task(predictor.task)
    items, notes = read_labelled(config.data, predictor)
    asked = ask_model(items, parent, predictor, threads=settings.worker_threads, limits=limits, progress=progress)
    notes += asked.notes
    _check_enough(asked, options, predictor.task)
    calibration = _calibrate(parent, predictor, asked, options)
    arrays = dict(calibration.arrays) | {CALIBRATED_ON: pack_digests(asked.digests)}
    if TRAINED_ON in parent.arrays:
        arrays[TRAINED_ON] = parent.arrays[TRAINED_ON]
    evaluation = _evaluate(predictor, asked, calibration)
    bundle = _write(config.out, parent, predictor, asked, calibration, arrays, evaluation)
    return CertifyResult(
        bundle=config.out,
        version=bundle.version,
        digest=bundle.manifest.digest,
        parent=parent.version,
        task=predictor.task,
        n=len(asked.items),
        evaluation=evaluation,
        statement=calibration.statement,
        before=str(parent.manifest.decision.get("statement", "")),
        unreadable=asked.unreadable,
        notes=(*notes, *calibration.notes),
        seconds=time.monotonic() - begun,
    )


def _choose_options(parent: Bundle, given: Mapping[str, Any]) -> PolicyOptions:
    """What the model was asked before, but for what is asked now; a promise and costs take each other's place."""
    before = PolicyOptions.from_json(parent.manifest.decision.get("policy")).as_json()
    costs, promise = ("cost_error", "cost_review"), ("max_error", "max_defer", "per_class")
    dropped = (
        promise if any(name in given for name in costs) else costs if any(name in given for name in promise) else ()
    )
    return PolicyOptions(**{name: value for name, value in before.items() if name not in dropped} | dict(given))


def _check_enough(asked: Asked, options: PolicyOptions, task: Task) -> None:
    if task == "regression":
        least, why = _LEAST_FOR_INTERVALS, "half of them measure the interval, which takes 19"
    elif options.costs is not None:
        least, why = _LEAST_FOR_COSTS, "half of them fit the temperature, which takes 30"
    else:
        needed = labels_needed(options.promised_error)
        least = 2 * needed
        share = f"{100 * options.promised_error:g} %"
        why = f"half of them test the promise, which for {share} takes {needed} without an error"
    n, groups = len(asked.items), len(np.unique(asked.groups))
    if groups < least:
        got = f"{n:,} readable pictures to certify by"
        if groups < n:
            got += f", which count as {groups:,}: of copies, and of one name in the column `group`, one counts"
        raise InvalidInput(
            "LABELLED", got=got, want=f"{least:,} at least: {why}",
            hint="Label more; or, where a promise of more errors will do, --max-error.",
        )  # fmt: skip


def _calibrate(parent: Bundle, predictor: Predictor, asked: Asked, options: PolicyOptions) -> Calibration:
    """The parent's own scores, with new references, temperatures and promises."""
    decision, arrays = parent.manifest.decision, parent.arrays
    rule = KnownRule(decision, arrays, feature_count=asked.frozen.shape[1], output_count=len(predictor.classes))
    alpha, shift_alpha = options.share_alpha(with_style="style" in decision)

    def shift(fit: IntArray) -> Shift:
        return fit_shift(asked.styles, fit, alpha=shift_alpha, before=ShiftRule(decision, arrays))

    def known(calibrated: FloatArray | None, fit: IntArray, notes: list[str]) -> Known:
        scores = rule.scores(asked.frozen, asked.logits, calibrated)
        kept = {name: array for name, array in arrays.items() if name.startswith("ood_")}
        return rank_scores(scores, fit, notes, section=decision["ood"], arrays=kept, alpha=alpha)

    spreads = read_spreads(decision, task=predictor.task, output_count=len(predictor.classes))
    return calibrate_held_out(
        HeldOut(
            labels=asked.targets,
            logits=asked.logits,
            groups=asked.groups,
        ),
        task=predictor.task,
        known=known,
        shift=shift if "style" in decision else None,
        options=options,
        class_names=predictor.classes,
        spreads=() if spreads is None else spreads.tolist(),
    )


def _evaluate(predictor: Predictor, asked: Asked, calibration: Calibration) -> AnyEvaluation:
    """Of the very pictures, as `train` does with those it holds out; the decisions are the new policy's."""
    policy = open_policy(
        predictor.task,
        calibration.decision,
        calibration.arrays,
        feature_count=asked.frozen.shape[1],
        output_count=len(predictor.classes),
    )
    answers = [
        policy.decide(logits, frozen, predictor.classes, "", style)
        for logits, frozen, style in zip(asked.logits, asked.frozen, asked.styles, strict=True)
    ]
    return evaluate_answers(answers, asked.targets, predictor.classes, groups=asked.groups)


def _write(
    out: Path,
    parent: Bundle,
    predictor: Predictor,
    asked: Asked,
    calibration: Calibration,
    arrays: Mapping[str, NDArray[Any]],
    evaluation: AnyEvaluation,
) -> Bundle:
    """The parent's members but for what the new policy changes: its arrays, the fixtures' answers, the card."""
    old = parent.manifest
    manifest = replace(
        old,  # its name too: this is another version of the same model
        created_at=datetime.now(UTC).isoformat(timespec="seconds"),
        decision=calibration.decision,
        evaluation=evaluation.as_json(),
        lineage={
            **old.lineage,
            "parent": old.digest,
            "certified_on": {
                "data_digest": digest_items(zip(asked.items, asked.digests, strict=True)),
                "n": len(asked.items),
            },
        },
    )
    members = {
        **parent.members,
        "reference.npz": write_arrays(arrays),
        **_answer_fixtures(parent, predictor, calibration),
    }
    if "MODEL_CARD.md" in members:
        members["MODEL_CARD.md"] = amend_card(
            members["MODEL_CARD.md"].decode(),
            manifest=manifest,
            evaluation=evaluation,
            statement=calibration.statement,
        ).encode()
    return write_bundle(out, manifest, members)


def _answer_fixtures(parent: Bundle, predictor: Predictor, calibration: Calibration) -> dict[str, bytes]:
    """The same pictures with what the new policy makes of the same logits; `predictor` has proved the old answers."""
    fixtures = unpack(parent.members, class_count=len(predictor.classes), task=predictor.task)
    session = Session(parent.members["model.onnx"])
    policy = open_policy(
        predictor.task,
        calibration.decision,
        calibration.arrays,
        feature_count=int(session.outputs["frozen"][1] or 0),
        output_count=len(predictor.classes),
    )
    answered = []
    for fixture in fixtures:
        pixels = predictor.preprocess.from_bytes(fixture.picture, name=fixture.name, limits=predictor.limits)
        logits = session.run(["logits"], pixels[np.newaxis])[0][0]
        answered.append(Fixture(name=fixture.name, picture=fixture.picture, answer=policy.row(logits)))
    return pack(answered)
