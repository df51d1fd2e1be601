"""Is the promise kept? Calibrated and certified on half of the held-out pictures, counted on the other half.

`python -m bench promise` prints the table of docs/promises.md. Three fifths of the pictures train once by each method;
the rest, which the model has never seen, is re-split: as many calibrate as `drivetrain train` holds out by default.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from scipy.stats import binom

from drivetrain.arrays import BoolArray, FloatArray, IntArray
from drivetrain.data.items import read_items
from drivetrain.data.split import number_groups, order_by_seed, split_items
from drivetrain.flows.calibrate import Calibration, HeldOut, calibrate, calibrate_held_out
from drivetrain.flows.fit_known import Known
from drivetrain.flows.fit_shift import Shift, fit_shift
from drivetrain.flows.fitting import FitInput, FitOptions, Fitted, Side, fit_by_head
from drivetrain.flows.policy_options import PolicyOptions
from drivetrain.imaging.decode import DecodeLimits
from drivetrain.imaging.preprocess import Preprocess, declare_preprocess
from drivetrain.inspect.duplicates import find_duplicates
from drivetrain.learn.folds import deal_folds
from drivetrain.learn.trunk import prepare_trunk
from drivetrain.progress import SilentProgress
from drivetrain.runtime.feature_cache import FeatureCache
from drivetrain.runtime.features import FrozenTrunk, extract_features
from drivetrain.runtime.known import KnownRule
from drivetrain.runtime.shifted import ShiftRule
from drivetrain.settings import load_settings
from drivetrain.trust.calibration import scale_logits, softmax
from drivetrain.trust.estimate import wilson_interval

_HELD_OUT = 0.4
_ALIKE = 0.05  # a count of errors that a kept promise gives less often than this is called surely broken


@dataclass(frozen=True)
class Prepared:
    """A trained model's answers to pictures it never saw, and the styles of both sides."""

    given: FitInput
    fitted: Fitted
    train_styles: FloatArray
    valid_styles: FloatArray
    ood_scores: FloatArray  # (n,) held out; scales are fitted once, not anew for each re-split


@dataclass(frozen=True)
class Draw:
    """What one calibration did on the pictures it is counted on."""

    is_promised: bool
    n: int
    n_decided: int
    n_wrong: int

    def is_broken(self, share: float) -> bool:
        return self.is_promised and self.n_wrong > share * self.n_decided

    def is_surely_broken(self, share: float) -> bool:
        return self.is_promised and bool(binom.sf(self.n_wrong - 1, self.n_decided, share) <= _ALIKE)


def measure(
    data: Path, *, cache_dir: Path, methods: Sequence[str], shares: Sequence[float] = (0.02, 0.05), resplits: int = 200
) -> None:
    """Print a row for each method and share."""
    given, styles = prepare_input(data, cache_dir=cache_dir)
    print(f"{len(given.train.items):,} pictures train, {len(given.valid.items):,} are re-split {resplits} times")
    head = (
        f"{'method':<8}{'share':>6}{'promised':>10}{'decides':>9}{'wrong':>8}"
        f"{'more wrong than that':>22}{'surely':>8}{'drawn anew: broken':>27}{'decides':>9}"
    )
    print(head)
    for method in methods:
        prepared = _fit(method, given, styles)
        for share in shares:
            halves = list(_resplit(prepared, share, resplits))
            anew = list(_draw_anew(prepared, share, resplits))
            print(_tell(prepared.fitted.method, share, halves, anew), flush=True)


def prepare_input(data: Path, *, cache_dir: Path) -> tuple[FitInput, dict[bytes, FloatArray]]:
    """Pictures to train on and to hold out, whatever split the folder has, and each picture's style by its digest."""
    settings = load_settings(environ={}, flags={"cache_dir": cache_dir})
    progress, limits = SilentProgress(), DecodeLimits()
    trunk = prepare_trunk("efficientnet_lite0", size=None, cache_dir=settings.cache_dir, progress=progress)
    preprocess = Preprocess(
        declare_preprocess(trunk.size, method="crop", mean=trunk.mean, std=trunk.std, filter_=trunk.filter)
    )
    items = read_items(data)
    items = items.keep([replace(item, split=None) for item in items])
    frozen = FrozenTrunk(
        model=trunk.model,
        weights_digest=trunk.weights_digest,
        feature_count=trunk.layout.count,
        map_channels=trunk.layout.last,
        preprocess=preprocess,
    )
    with FeatureCache(settings.cache_dir) as cache:
        table = extract_features(
            [items.file(item) for item in items],
            trunk=frozen,
            cache=cache,
            threads=settings.worker_threads,
            limits=limits,
            progress=progress,
        )
    items = items.keep([items.items[row] for row in table.rows])
    copies = find_duplicates(table.digests, table.fingerprints, table.features[:, : trunk.layout.last])
    alike = [[items.items[row].path for row in rows] for rows in copies.groups]
    split = split_items(items.items, valid_share=_HELD_OUT, seed=1, copies=alike, task=items.task)
    groups = np.array(number_groups(items.items, alike), dtype=np.int64)
    row_of = {item.path: row for row, item in enumerate(items.items)}

    def side(chosen: Sequence) -> Side:
        ordered = order_by_seed(chosen, 1)
        rows = [row_of[item.path] for item in ordered]
        return Side(
            items=tuple(ordered),
            files=tuple(items.file(item) for item in ordered),
            digests=tuple(table.digests[row] for row in rows),
            features=table.features[rows],
            targets=items.targets(ordered),
            groups=groups[rows],
        )

    given = FitInput(
        task=items.task,
        classes=items.classes,
        trunk=trunk,
        preprocess=preprocess,
        train=side(split.train),
        valid=side(split.valid),
        options=FitOptions(seed=1),
        settings=settings,
        limits=limits,
        progress=progress,
    )
    return given, dict(zip(table.digests, table.styles, strict=True))


def _fit(method: str, given: FitInput, styles: dict[bytes, FloatArray]) -> Prepared:
    if method == "head":
        fitted = fit_by_head(given)
    else:
        from drivetrain.flows.auto import fit_by_auto

        fitted = fit_by_auto(given)
    train_styles, valid_styles = (
        np.stack([styles[one] for one in side.digests]) for side in (given.train, given.valid)
    )
    made = calibrate(
        train_features=fitted.train_frozen,
        train_labels=given.train.targets,
        valid_features=fitted.valid_frozen,
        valid_labels=given.valid.targets,
        valid_logits=fitted.valid_logits,
        train_styles=train_styles,
        valid_styles=valid_styles,
        class_names=given.classes,
    )
    rule = KnownRule(made.decision, made.arrays, feature_count=fitted.valid_frozen.shape[1])
    scaled = scale_logits(
        fitted.valid_logits, temperature=made.decision["temperature"], bias=np.array(made.decision.get("bias", 0.0))
    )
    scores = np.array([rule.judge(row, logits)[0] for row, logits in zip(fitted.valid_frozen, scaled, strict=True)])
    return Prepared(given, fitted, train_styles, valid_styles, scores)


def _resplit(prepared: Prepared, share: float, times: int) -> Iterator[Draw]:
    """Half calibrates, the other is counted; dealt alike in classes, copies together, in a new order each time."""
    side = prepared.given.valid
    for seed in range(times):
        order = np.random.default_rng([seed, 2]).permutation(len(side.items))
        half = deal_folds(side.targets[order], count=2, groups=side.groups[order])
        yield _judge(prepared, order[half == 0], order[half == 1], share, is_grouped=True)


def _draw_anew(prepared: Prepared, share: float, times: int) -> Iterator[Draw]:
    """As many drawn with replacement: then the held-out pictures are all there are, and the risk is exact."""
    n = len(prepared.given.valid.items)
    for seed in range(times):
        rows = np.random.default_rng([seed, 3]).integers(n, size=n // 2)
        yield _judge(prepared, rows, np.arange(n), share, is_grouped=False)


def _judge(prepared: Prepared, rows: IntArray, counted: IntArray, share: float, *, is_grouped: bool) -> Draw:
    made = _calibrate(prepared, rows, share, is_grouped=is_grouped)
    accepted, wrong = _decide(prepared, made, counted)
    return Draw(
        is_promised=made.decision["promise"]["is_certified"],
        n=len(counted),
        n_decided=int(accepted.sum()),
        n_wrong=int((accepted & wrong).sum()),
    )


def _calibrate(prepared: Prepared, rows: IntArray, share: float, *, is_grouped: bool) -> Calibration:
    """As `drivetrain certify` would on these rows."""
    valid, fitted, options = prepared.given.valid, prepared.fitted, PolicyOptions(max_error=share)
    alpha, shift_alpha = options.share_alpha(with_style=True)
    scores = prepared.ood_scores[rows]

    def known(_logits: FloatArray | None, fit: IntArray, _notes: list[str]) -> Known:
        reference = np.sort(scores[fit])
        is_known = _p_values(reference, scores) > alpha
        return Known(section={"flag_at": alpha}, arrays={"ood_calibration": reference}, is_known=is_known)

    def shift(fit: IntArray) -> Shift:
        return fit_shift(prepared.valid_styles[rows], fit, alpha=shift_alpha, train=prepared.train_styles)

    return calibrate_held_out(
        HeldOut(
            features=fitted.valid_frozen[rows],
            labels=valid.targets[rows],
            logits=fitted.valid_logits[rows],
            groups=valid.groups[rows] if is_grouped else None,
        ),
        task="classification",
        known=known,
        shift=shift,
        options=options,
        class_names=prepared.given.classes,
    )


def _decide(prepared: Prepared, made: Calibration, rows: IntArray) -> tuple[BoolArray, BoolArray]:
    """Which of these the policy decides by itself, and which of its answers are wrong; (n,) both."""
    decision = made.decision
    bias = np.array(decision["bias"]) if "bias" in decision else None
    probs = softmax(scale_logits(prepared.fitted.valid_logits[rows], temperature=decision["temperature"], bias=bias))
    is_known = _p_values(made.arrays["ood_calibration"], prepared.ood_scores[rows]) > decision["ood"]["flag_at"]
    rule = ShiftRule(decision, made.arrays)
    is_usual = np.array([not rule.judge(style)[1] for style in prepared.valid_styles[rows]])
    accepted: BoolArray = is_known & is_usual & (probs.max(axis=1) > decision["threshold"])
    return accepted, probs.argmax(axis=1) != prepared.given.valid.targets[rows]


def _p_values(reference: FloatArray, scores: FloatArray) -> FloatArray:
    at_least = len(reference) - np.searchsorted(reference, scores, side="left")
    return np.asarray((at_least + 1) / (len(reference) + 1))


def _tell(method: str, share: float, halves: Sequence[Draw], anew: Sequence[Draw]) -> str:
    def rate(draws: Sequence[Draw], is_so: Callable[[Draw], bool]) -> str:
        return f"{100 * sum(map(is_so, draws)) / len(draws):.1f} %"

    def mean(draws: Sequence[Draw]) -> str:
        return f"{100 * float(np.mean([one.n_decided / one.n for one in draws if one.is_promised] or [0])):.1f} %"

    promised = [one for one in halves if one.is_promised]
    wrong = sum(one.n_wrong for one in promised) / max(1, sum(one.n_decided for one in promised))
    n_broken = sum(one.is_broken(share) for one in anew)
    low, high = wilson_interval(n_broken, len(anew))
    told = f"{100 * n_broken / len(anew):.1f} % ({100 * low:.1f} to {100 * high:.1f})"
    return (
        f"{method:<8}{100 * share:>4.0f} %{rate(halves, lambda one: one.is_promised):>10}{mean(halves):>9}"
        f"{100 * wrong:>6.2f} %{rate(halves, lambda one: one.is_broken(share)):>22}"
        f"{rate(halves, lambda one: one.is_surely_broken(share)):>8}{told:>27}{mean(anew):>9}"
    )
