"""Does it know what it does not know? `python -m bench ood [--model M.dt]` prints the table of docs/unknown.md.

Near: a class of clothing is left out of everything, head and rule are fitted to the others, and its pictures are told
from held-out pictures of these. Weights are chosen on half of the classes and reported on the others, both ways. Far:
pictures of another kind. False flags: known pictures flagged, over re-splits of the same pictures.
"""

from __future__ import annotations

import argparse
import os
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy.stats import betabinom

from bench.foreign import make_foreign
from bench.ood_near import ALPHA, Judge, Scores, print_near
from drivetrain.arrays import FloatArray, IntArray
from drivetrain.data.items import read_items
from drivetrain.data.split import order_by_seed
from drivetrain.errors import UnreadablePicture
from drivetrain.flows.fit_known import choose_known, fit_known
from drivetrain.imaging.decode import DecodeLimits
from drivetrain.imaging.preprocess import Preprocess, declare_preprocess
from drivetrain.learn.folds import deal_folds
from drivetrain.learn.head import Head, fit_head
from drivetrain.learn.trunk import Trunk, prepare_trunk
from drivetrain.progress import SilentProgress
from drivetrain.runtime.feature_cache import FeatureCache
from drivetrain.runtime.features import FrozenTrunk, extract_features
from drivetrain.runtime.known import KnownRule
from drivetrain.runtime.predictor import Predictor, load
from drivetrain.settings import load_settings
from drivetrain.trust.calibration import fit_temperature
from drivetrain.trust.conformal import p_value
from drivetrain.trust.detection import measure_detection

_TENTHS = 10  # eight to train, one to fit the rule, one to judge it
_SPLITS = 2  # of each class left out


@dataclass(frozen=True)
class Pictures:
    """All features of the trunk (n, layout.count), and labels (n,), in an order that says nothing."""

    trunk: Trunk
    names: tuple[str, ...]
    features: FloatArray
    labels: IntArray
    files: tuple[Path, ...]


@dataclass(frozen=True)
class Sides:
    """Rows of a split."""

    train: IntArray
    fit: IntArray
    judge: IntArray


def main(argv: list[str]) -> None:
    """Print all; `--model` also judges a bundle, such as one of the method top."""
    parser = argparse.ArgumentParser(prog="python -m bench ood", description=main.__doc__)
    parser.add_argument("--data", type=Path, help="default: clothing/train and clothing/validation of DRIVETRAIN_DATA")
    parser.add_argument("--test", type=Path, help="known pictures that nothing was tuned by: their flags, told apart")
    parser.add_argument("--model", type=Path, help="a bundle to judge as well")
    parser.add_argument("--resplits", type=int, default=200)
    given = parser.parse_args(argv)
    pictures = read_pictures(given.data)
    print(f"{len(pictures.labels):,} pictures of {len(pictures.names)} classes")
    measure_heads(pictures)
    with tempfile.TemporaryDirectory(prefix="bench-") as scratch:
        foreign = make_foreign(Path(scratch))
        told = {name: read_features(files, pictures.trunk)[0] for name, files in foreign.items()}
        measure_far(pictures, told, given.test)
        measure_false_flags(pictures, resplits=given.resplits)
        if given.model is not None:
            measure_bundle(given.model, foreign, given.test)


def read_pictures(data: Path | None) -> Pictures:
    trunk = prepare_trunk(
        "efficientnet_lite0", size=224, cache_dir=load_settings().cache_dir, progress=SilentProgress()
    )
    folders = [data] if data else [Path(os.environ["DRIVETRAIN_DATA"], "clothing", side) for side in _SIDES]
    listed = [(folder, item) for folder in folders for item in read_items(folder)]
    order = order_by_seed([item for _, item in listed], 42)
    place = {id(item): folder for folder, item in listed}
    features, rows = read_features([place[id(item)] / item.path for item in order], trunk)
    names = tuple(sorted({item.label for item in order}))
    read = [order[row] for row in rows]
    labels = np.array([names.index(item.label) for item in read], dtype=np.int64)
    files = tuple(place[id(item)] / item.path for item in read)
    return Pictures(trunk=trunk, names=names, features=features, labels=labels, files=files)


_SIDES = ("train", "validation")


def read_features(files: list[Path], trunk: Trunk) -> tuple[FloatArray, IntArray]:
    """(features (n, count), which of the files they are of)."""
    settings = load_settings()
    ops = declare_preprocess(trunk.size, mean=trunk.mean, std=trunk.std, filter_=trunk.filter)
    frozen = FrozenTrunk(
        model=trunk.model,
        weights_digest=trunk.weights_digest,
        feature_count=trunk.layout.count,
        map_channels=trunk.layout.last,
        preprocess=Preprocess(ops),
    )
    with FeatureCache(settings.cache_dir) as cache:
        table = extract_features(
            files, trunk=frozen, cache=cache, threads=settings.worker_threads, limits=_limits(),
            progress=SilentProgress(),
        )  # fmt: skip
    return table.features, np.asarray(table.rows, dtype=np.int64)


def _limits() -> DecodeLimits:
    settings = load_settings()
    return DecodeLimits(max_bytes=settings.image_max_bytes, max_pixels=settings.image_max_pixels)


def split_rows(pictures: Pictures, rows: IntArray, *, seed: int) -> Sides:
    """Stratified."""
    order = np.random.default_rng(seed).permutation(rows)
    tenth = deal_folds(pictures.labels[order], count=_TENTHS)
    return Sides(train=order[tenth < _TENTHS - 2], fit=order[tenth == _TENTHS - 2], judge=order[tenth == _TENTHS - 1])


class Fitted:
    """Head and rule of a split, as the method head makes them."""

    def __init__(self, pictures: Pictures, sides: Sides, *, penalty: float | None) -> None:
        layout = pictures.trunk.layout
        self._columns, self._last = layout.head_count, layout.last
        classes, labels = np.unique(pictures.labels[sides.train], return_inverse=True)
        self.head: Head = fit_head(
            pictures.features[sides.train, : self._columns], labels, task="classification", class_count=len(classes),
            threads=load_settings().worker_threads, progress=SilentProgress(), blocks=layout.blocks,
            penalties=None if penalty is None else (penalty,),
        )  # fmt: skip
        held = pictures.features[sides.fit]
        rows = sides.train[choose_known(labels, outputs=len(classes))]
        self.judge = Judge(
            train=pictures.features[sides.train, : self._last],
            train_labels=labels,
            known_logits=self.head.logits(pictures.features[rows, : self._columns]),
            held=held[:, : self._last],
            held_logits=self.head.logits(held[:, : self._columns]),
            held_labels=np.searchsorted(classes, pictures.labels[sides.fit]),
        )

    def scores(self, features: FloatArray) -> Scores:
        """As `Judge.scores`, of features (n, layout.count)."""
        return self.judge.scores(features[:, : self._last], self.head.logits(features[:, : self._columns]))


def measure_heads(pictures: Pictures) -> None:
    """AUROC of each class left out of head and rule."""
    rows = np.arange(len(pictures.labels))
    penalty = Fitted(pictures, split_rows(pictures, rows, seed=0), penalty=None).head.penalty
    found = []
    for label in range(len(pictures.names)):
        for number in range(_SPLITS):
            sides = split_rows(pictures, rows[pictures.labels != label], seed=1 + 100 * number + label)
            fitted = Fitted(pictures, sides, penalty=penalty)
            found.append(
                [fitted.scores(pictures.features[of]) for of in (sides.fit, sides.judge, pictures.labels == label)]
            )
    print_near("near, heads: AUROC of the class left out", pictures.names, found)


def measure_far(pictures: Pictures, foreign: Mapping[str, FloatArray], test: Path | None) -> None:
    """AUROC and FPR95 of pictures of another kind; flags of the test pictures."""
    sides = split_rows(pictures, np.arange(len(pictures.labels)), seed=0)
    fitted = Fitted(pictures, sides, penalty=None)
    known = fitted.scores(pictures.features[sides.judge])["rule"]
    print(
        f"\n{'far, against ' + str(len(known)) + ' known':<40}{'pictures':>11}{'AUROC':>11}{'FPR95':>11}{'flagged':>11}"
    )
    print_far(fitted.judge.rule, known, {name: fitted.scores(of)["rule"] for name, of in foreign.items()})
    if test is not None:
        features, _ = read_features([test / item.path for item in read_items(test)], pictures.trunk)
        print_flags(fitted.judge.rule, fitted.scores(features)["rule"], test)


def print_flags(rule: KnownRule, scores: FloatArray, test: Path) -> None:
    print(f"{'known, of the folder ' + test.name:<40}{len(scores):>11}{'':>22}{share_flagged(rule, scores):>11.3f}")


def print_far(rule: KnownRule, known: FloatArray, foreign: Mapping[str, FloatArray]) -> None:
    everything = {**foreign, "all of them": np.concatenate(list(foreign.values()))}
    for name, scores in everything.items():
        told = measure_detection(known, scores, repeats=200)
        print(
            f"  {name:<38}{len(scores):>11}{told.auroc:>11.4f}{told.fpr95:>11.4f}{share_flagged(rule, scores):>11.3f}"
        )


def share_flagged(rule: KnownRule, scores: FloatArray) -> float:
    return float(np.mean([p_value(rule.reference, float(score)) <= rule.flag_at for score in scores]))


def measure_false_flags(pictures: Pictures, *, resplits: int) -> None:
    """Share of known pictures flagged; logits are of heads that saw no such picture, by cross-validation."""
    layout = pictures.trunk.layout
    count = len(pictures.labels)
    head = fit_head(
        pictures.features[:, : layout.head_count], pictures.labels, task="classification",
        class_count=len(pictures.names), threads=load_settings().worker_threads, progress=SilentProgress(),
        blocks=layout.blocks,
    )  # fmt: skip
    logits, frozen = head.cv_logits, pictures.features[:, : layout.last]
    rates, n_fit, n_judge = [], 0, 0
    for seed in range(resplits):
        sides = split_rows(pictures, np.arange(count), seed=10_000 + seed)
        calibrated = logits / fit_temperature(logits[sides.fit], pictures.labels[sides.fit])
        held = np.concatenate([sides.fit, sides.judge])
        rows = sides.train[choose_known(pictures.labels[sides.train], outputs=len(pictures.names))]
        known = fit_known(
            frozen[sides.train], pictures.labels[sides.train], frozen[held], np.arange(len(sides.fit)), [],
            known_logits=logits[rows], valid_logits=logits[held], calibrated=calibrated[held], alpha=ALPHA,
        )  # fmt: skip
        rates.append(float(np.mean(~known.is_known[len(sides.fit) :])))
        n_fit, n_judge = len(sides.fit), len(sides.judge)
    allowed = int(np.floor(ALPHA * (n_fit + 1)))
    low, high = (betabinom.ppf(at, n_judge, allowed, n_fit + 1 - allowed) / n_judge for at in (0.025, 0.975))
    within = np.mean([low <= rate <= high for rate in rates])
    print(
        f"\nfalse flags at {ALPHA:g}, {resplits} re-splits, {n_fit} to fit to and {n_judge} to judge: mean "
        f"{np.mean(rates):.4f} (promised {allowed / (n_fit + 1):.4f}; standard error of a re-split "
        f"{np.std(rates, ddof=1):.4f});\n  {100 * within:.1f} % of them within [{low:.3f}, {high:.3f}], "
        "which holds 95 % where the promise is exact"
    )


def measure_bundle(path: Path, foreign: Mapping[str, list[Path]], test: Path | None) -> None:
    """Far, by the bundle's own scores of the pictures it was calibrated on."""
    predictor = load(path)
    rule = predictor.policy.known
    title = f"{predictor.version}: far, by {len(rule.reference)}"
    print(f"\n{title:<40}{'pictures':>11}{'AUROC':>11}{'FPR95':>11}{'flagged':>11}")
    print_far(rule, rule.reference, {name: _ask(predictor, files) for name, files in foreign.items()})
    if test is not None:
        print_flags(rule, _ask(predictor, [test / item.path for item in read_items(test)]), test)


def _ask(predictor: Predictor, files: Sequence[Path]) -> FloatArray:
    answers = [answer for answer in predictor.predict_many(files) if not isinstance(answer, UnreadablePicture)]
    return np.array([answer.ood_score for answer in answers])
