"""Re-splits of pictures held out: each calibrates on a half as training does, and counts on pictures it did not see."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from scipy.stats import binom

from drivetrain.arrays import BoolArray, FloatArray, IntArray
from drivetrain.data.items import Item, Items, read_items
from drivetrain.data.targets import find_strata
from drivetrain.flows.calibrate import Calibration, HeldOut, calibrate_held_out
from drivetrain.flows.fit_known import fit_scales, fit_surroundings
from drivetrain.flows.fit_shift import fit_shift
from drivetrain.flows.fitting import FitInput, FitOptions
from drivetrain.flows.policy_options import PolicyOptions
from drivetrain.flows.train import fit_model
from drivetrain.flows.train_data import TrainData, divide_data, extract_data
from drivetrain.imaging.decode import DecodeLimits
from drivetrain.imaging.picture_file import read_picture_file
from drivetrain.imaging.preprocess import Preprocess, declare_preprocess
from drivetrain.imaging.style_measures import StyledPreprocess
from drivetrain.learn.folds import deal_folds
from drivetrain.learn.trunk import prepare_trunk
from drivetrain.progress import SilentProgress
from drivetrain.runtime.decision import DecisionPolicy
from drivetrain.runtime.known import KnownRule
from drivetrain.runtime.parallel import callers_for, map_in_order
from drivetrain.runtime.session import Session
from drivetrain.runtime.shifted import ShiftRule
from drivetrain.settings import Settings
from drivetrain.trust.calibration import scale_logits, softmax
from drivetrain.trust.conformal import p_values
from drivetrain.trust.ood import measure_doubt, measure_energy
from drivetrain.trust.ood_rule import Part, Surroundings

KINDS = ("unknown", "shifted", "either")
_HELD_OUT = 0.4
_ALIKE = 0.05  # a count of errors that a kept promise gives less often than this is called surely broken
_CHECKED = 40  # pictures that the rule as it serves is asked about too


@dataclass(frozen=True, slots=True, kw_only=True)
class Remembered(Surroundings):
    """Looks up what was measured of a picture by its row: `features` are that (1,). No re-split changes a distance."""

    told: Sequence[tuple[dict[Part, float], float]]

    def measure(
        self, features: FloatArray, logits: FloatArray | None = None, surest: tuple[float, float] | None = None
    ) -> tuple[dict[Part, float], float]:
        told, outside = self.told[int(features.item())]
        # what its calibrated answers say is another thing in each re-split
        sure: dict[Part, float] = (
            {} if surest is None else {"energy": measure_energy(*surest), "doubt": measure_doubt(surest[1])}
        )
        return {**told, **sure}, outside


@dataclass(frozen=True)
class Answers:
    """What a trained model says of pictures it never saw: the held-out ones, and below them those of the test."""

    method: str
    classes: tuple[str, ...]
    around: Remembered
    frozen: FloatArray
    logits: FloatArray
    labels: IntArray
    styles: FloatArray
    groups: IntArray
    train_styles: FloatArray
    held: int  # how many are held out

    @property
    def test(self) -> IntArray:
        return np.arange(self.held, len(self.labels))


@dataclass(frozen=True)
class Draw:
    """What one calibration did on pictures it did not see."""

    is_promised: bool
    n_reference: int  # pictures that p-values are counted among
    n: int
    n_decided: int
    n_wrong: int
    flagged: Mapping[str, int]  # by kind

    def is_broken(self, share: float) -> bool:
        return self.is_promised and self.n_wrong > share * self.n_decided

    def is_surely_broken(self, share: float) -> bool:
        return self.is_promised and bool(binom.sf(self.n_wrong - 1, self.n_decided, share) <= _ALIKE)


def prepare_input(data: Path, test: Path | None, settings: Settings) -> tuple[FitInput, TrainData, Items]:
    """Two sides, whatever split the folder has for training and validation, and the pictures to count apart."""
    progress, limits = SilentProgress(), DecodeLimits()
    trunk = prepare_trunk("efficientnet_lite0", size=None, cache_dir=settings.cache_dir, progress=progress)
    preprocess = Preprocess(declare_preprocess(trunk.size, mean=trunk.mean, std=trunk.std, filter_=trunk.filter))
    everything = read_items(data)
    items = everything.keep([replace(item, split=None) for item in everything if item.split != "test"])
    apart = everything.keep([item for item in everything if item.split == "test"]) if test is None else read_items(test)
    table = extract_data(items, trunk, preprocess, settings=settings, limits=limits, progress=progress)
    divided = divide_data(items, table, trunk, valid_share=_HELD_OUT, seed=1)
    given = FitInput(
        task=items.task,
        classes=items.classes,
        trunk=trunk,
        preprocess=preprocess,
        train=divided.train,
        valid=divided.valid,
        options=FitOptions(seed=1),
        settings=settings,
        limits=limits,
        progress=progress,
    )
    return given, divided, apart


def fit_answers(method: str, given: FitInput, divided: TrainData, apart: Items) -> Answers:
    fitted = fit_model(method, given)
    frozen, logits, styles = fitted.valid_frozen, fitted.valid_logits, divided.styles(given.valid)
    labels, groups = given.valid.targets, given.valid.groups
    if len(apart):
        theirs = _ask(fitted.model, given, apart)
        frozen, logits, styles = (np.concatenate(pair) for pair in zip((frozen, logits, styles), theirs, strict=True))
        labels = np.concatenate([labels, apart.targets(classes=given.classes)])
        groups = np.concatenate([groups, np.full(len(apart), -1)])
    strata = find_strata(given.train.targets, task=given.task)
    around = fit_surroundings(fitted.train_frozen, strata, known_logits=fitted.known_logits)
    told = [around.measure(row, one) for row, one in zip(frozen, logits, strict=True)]
    return Answers(
        method=fitted.method,
        classes=given.classes,
        around=Remembered(
            space=around.space,
            known=around.known,
            k=around.k,
            told=told,
        ),
        frozen=frozen,
        logits=logits,
        labels=labels.astype(np.int64),
        styles=styles,
        groups=groups,
        train_styles=divided.styles(given.train),
        held=len(given.valid.items),
    )


def _ask(model: bytes, given: FitInput, apart: Items) -> tuple[FloatArray, FloatArray, FloatArray]:
    """(frozen, logits, styles) as production has them; a picture that cannot be read ends it."""
    session, styled = Session(model), StyledPreprocess(given.preprocess)

    def work(item: Item) -> tuple[FloatArray, FloatArray, FloatArray]:
        data = read_picture_file(apart.file(item), name=item.path, limits=given.limits)
        pixels, style = styled.from_bytes(data, name=item.path, limits=given.limits)
        frozen, logits = session.run(["frozen", "logits"], pixels[np.newaxis])
        return frozen[0], logits[0], style

    rows = list(map_in_order(work, apart.items, threads=callers_for(given.settings.worker_threads)))
    frozen, logits, styles = (np.stack(column) for column in zip(*rows, strict=True))
    return frozen, logits, styles


def resplit(answers: Answers, options: PolicyOptions, times: int) -> Iterator[tuple[Draw, Draw]]:
    """(on the other half, on the test): dealt alike in classes, copies together, in a new order each time."""
    for seed in range(times):
        order = np.random.default_rng([seed, 2]).permutation(answers.held)
        half = deal_folds(answers.labels[order], count=2, groups=answers.groups[order])
        made = calibrate_rows(answers, order[half == 0], options)
        yield count(answers, made, order[half == 1]), count(answers, made, answers.test)


def draw_anew(answers: Answers, options: PolicyOptions, times: int) -> Iterator[Draw]:
    """As many drawn with replacement: then the held-out pictures are all there are, and the risk is exact."""
    for seed in range(times):
        rows = np.random.default_rng([seed, 3]).integers(answers.held, size=answers.held // 2)
        made = calibrate_rows(answers, rows, options, is_grouped=False)
        yield count(answers, made, np.arange(answers.held))


def calibrate_rows(answers: Answers, rows: IntArray, options: PolicyOptions, *, is_grouped: bool = True) -> Calibration:
    """As `drivetrain train` does with these rows held out."""
    alpha, shift_alpha = options.share_alpha(with_style=True)
    return calibrate_held_out(
        HeldOut(
            labels=answers.labels[rows],
            logits=answers.logits[rows],
            groups=answers.groups[rows] if is_grouped else None,
        ),
        task="classification",
        known=lambda calibrated, fit, notes: fit_scales(
            answers.around,
            _as_features(rows),
            fit,
            notes,
            logits=answers.logits[rows],
            calibrated=calibrated,
            alpha=alpha,
        ),
        shift=lambda fit: fit_shift(answers.styles[rows], fit, alpha=shift_alpha, train=answers.train_styles),
        options=options,
        class_names=answers.classes,
    )


def _as_features(rows: IntArray) -> FloatArray:
    """(n, 1): what `Remembered` looks a picture up by."""
    return rows[:, np.newaxis].astype(np.float64)


def count(answers: Answers, made: Calibration, rows: IntArray) -> Draw:
    unknown, shifted, accepted, wrong = decide(answers, made, rows)
    return Draw(
        is_promised=made.decision["promise"]["is_certified"],
        n_reference=len(made.arrays["ood_calibration"]),
        n=len(rows),
        n_decided=int(accepted.sum()),
        n_wrong=int((accepted & wrong).sum()),
        flagged=dict(zip(KINDS, map(int, (unknown.sum(), shifted.sum(), (unknown | shifted).sum())), strict=True)),
    )


def decide(answers: Answers, made: Calibration, rows: IntArray) -> tuple[BoolArray, BoolArray, BoolArray, BoolArray]:
    """(unknown, shifted, decided by itself, its answer wrong), (n,) each, by what would stand in the bundle."""
    decision = made.decision
    bias = np.array(decision["bias"]) if "bias" in decision else None
    scaled = scale_logits(answers.logits[rows], temperature=decision["temperature"], bias=bias)
    known = KnownRule(decision, made.arrays, feature_count=answers.frozen.shape[1], output_count=len(answers.classes))
    assert known.rule is not None
    rule = replace(known.rule, surroundings=answers.around)
    scores = rule.scores(_as_features(rows), answers.logits[rows], scaled)
    unknown = p_values(known.reference, scores) <= known.flag_at
    shifted = ShiftRule(decision, made.arrays).find_shifted(answers.styles[rows])
    probs = softmax(scaled)
    accepted: BoolArray = ~unknown & ~shifted & (probs.max(axis=1) > decision["threshold"])
    return unknown, shifted, accepted, probs.argmax(axis=1) != answers.labels[rows]


def check_served(answers: Answers) -> None:
    """The rule as it serves says the same, or nothing here is about it."""
    made = calibrate_rows(answers, np.arange(answers.held)[::2], PolicyOptions())
    rows = np.arange(answers.held)[1::2][:_CHECKED]
    policy = DecisionPolicy(
        made.decision, made.arrays, feature_count=answers.frozen.shape[1], output_count=len(answers.classes)
    )
    unknown, shifted, accepted, _ = decide(answers, made, rows)
    for at, row in enumerate(rows):
        told = policy.decide(answers.logits[row], answers.frozen[row], answers.classes, "", answers.styles[row])
        said = ("unknown" in told.reasons, "shifted" in told.reasons, told.decision == "accept")
        if said != (unknown[at], shifted[at], accepted[at]):
            raise RuntimeError(f"row {row}: served {said}, counted {unknown[at], shifted[at], accepted[at]}")
