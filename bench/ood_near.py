"""How well a class that was left out is told: the single scores, the rule, and rules chosen without that class.

Weights are chosen on half of the classes and reported on the others, both ways. `python -m bench ood` does so for
heads; `python -m bench ood-tops DATA` for tops, each trained without its class: some two minutes a class.
"""

from __future__ import annotations

import argparse
import itertools
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from drivetrain.arrays import FloatArray, IntArray
from drivetrain.flows.fit_known import choose_known, fit_known, fit_surroundings
from drivetrain.runtime.known import KnownRule
from drivetrain.settings import load_settings
from drivetrain.trust.calibration import fit_temperature
from drivetrain.trust.ood import find_surest, measure_doubt, measure_energy, normalise_roots
from drivetrain.trust.ood_rule import Scale, fit_scale
from drivetrain.trust.ood_space import Gaussian, fit_gaussian

ALPHA = 0.05
_GRID = {"doubt": (0.0, 0.5, 1.0), "logits": (0.0, 0.5, 1.0, 1.5), "neighbour": (0.0, 0.5), "relative": (0.0, 0.25)}

Scores = Mapping[str, FloatArray]


class Judge:
    """The rule of a model, read back as from a bundle, and the scores that the rule does without."""

    def __init__(
        self,
        *,
        train: FloatArray,
        train_labels: IntArray,
        known_logits: FloatArray,
        held: FloatArray,
        held_logits: FloatArray,
        held_labels: IntArray,
    ) -> None:
        self._temperature = fit_temperature(held_logits, held_labels)
        known = fit_known(
            train, train_labels, held, np.arange(len(held)), [], known_logits=known_logits, valid_logits=held_logits,
            calibrated=held_logits / self._temperature, alpha=ALPHA,
        )  # fmt: skip
        self.rule = KnownRule(
            {"ood": known.section}, known.arrays, feature_count=train.shape[1], output_count=held_logits.shape[1]
        )
        self._places = fit_surroundings(train, train_labels)
        coordinates = self._places.space.project(normalise_roots(train))
        self._by_class, self._of_all = (
            fit_gaussian(coordinates, each) for each in (train_labels, np.zeros_like(train_labels))
        )

    def scores(self, frozen: FloatArray, logits: FloatArray) -> Scores:
        """(n,) each of features (n, d) and logits (n, k); `rule` is the rule's own."""
        calibrated = logits / self._temperature
        assert self.rule.rule is not None
        around = self.rule.rule.surroundings
        by_logits = [around.measure(row, one) for row, one in zip(frozen, logits, strict=True)]
        by_place = [self._places.measure(row)[0] for row in frozen]
        coordinates = self._places.space.project(normalise_roots(frozen))
        absolute, background = (_measure_distances(of, coordinates) for of in (self._by_class, self._of_all))
        surest = [find_surest(row) for row in calibrated]
        return {
            "rule": self.rule.scores(frozen, logits, calibrated),
            "energy": np.array([measure_energy(*one) for one in surest]),
            "doubt": np.array([measure_doubt(probability) for _, probability in surest]),
            "logits": np.array([told["neighbour"] for told, _ in by_logits]),
            "neighbour": np.array([told["neighbour"] for told in by_place]),
            "relative": absolute - background,
            "absolute": absolute,
            "outside": np.array([outside for _, outside in by_logits]),
        }


def _measure_distances(gaussian: Gaussian, coordinates: FloatArray) -> FloatArray:
    return np.array([gaussian.distance(row) for row in coordinates])


def print_near(title: str, names: Sequence[str], found: Sequence[Sequence[Scores]]) -> None:
    """`found` holds, for each class as many times as it was left out: scores of pictures that fit the rule, of other
    known ones, and of those of the class."""
    single = [{name: measure_auroc(known[name], foreign[name]) for name in known} for _, known, foreign in found]
    columns = list(single[0])
    table = np.array([list(one.values()) for one in single]).reshape(len(names), -1, len(columns)).mean(axis=1)
    print(f"\n{title:<40}" + "".join(f"{name:>11}" for name in columns))
    for name, row in zip(names, table, strict=True):
        _print_row(f"  {name}", row)
    _print_row("mean", table.mean(axis=0))
    weights = [{"energy": 1.0, **dict(zip(_GRID, each, strict=True))} for each in itertools.product(*_GRID.values())]
    tried = np.array([[_try(each, *one) for each in weights] for one in found])
    by_class = tried.reshape(len(names), -1, len(weights)).mean(axis=1)
    told = []
    for chosen, reported in ((0, 1), (1, 0)):
        best = int(by_class[chosen::2].mean(axis=0).argmax())
        told.append(by_class[reported::2, best])
        kept = ", ".join(f"{name} {weight:g}" for name, weight in weights[best].items() if weight)
        print(
            f"chosen on the other classes: {kept}; reported on {', '.join(names[reported::2])}: {told[-1].mean():.3f}"
        )
    print(f"mean of all classes, each by weights chosen without it: {np.concatenate(told).mean():.3f} (target 0.83)")


def _try(weights: Mapping[str, float], *told: Scores) -> float:
    """AUROC of a rule of these weights: told of held-out pictures that fit it, of known and of foreign ones."""
    scales = {name: fit_scale(told[0][name]) for name in (*weights, "outside")}
    near = [sum(weight * _standardise(of[name], scales[name]) for name, weight in weights.items()) for of in told]
    whole = fit_scale(np.asarray(near[0]))
    known, foreign = (
        _standardise(np.asarray(one), whole) + 2 * np.maximum(0, _standardise(of["outside"], scales["outside"]) - 2.1)
        for one, of in zip(near[1:], told[1:], strict=True)
    )
    return measure_auroc(known, foreign)


def _standardise(values: FloatArray, scale: Scale) -> FloatArray:
    return (values - scale.centre) / scale.spread


def measure_auroc(known: FloatArray, foreign: FloatArray) -> float:
    """Chance that a foreign picture scores more than a known one, ties counting half."""
    at = np.sort(known)
    below, upto = (np.searchsorted(at, foreign, side=side) for side in ("left", "right"))
    return float((below + upto).mean() / (2 * len(known)))


def _print_row(name: str, values: FloatArray) -> None:
    print(f"{name:<40}" + "".join(f"{value:>11.3f}" for value in values), flush=True)


def main(argv: list[str]) -> None:
    """Tops, each trained without a class, as `auto` trains them where it chooses the late cut."""
    from bench.resplits import prepare_input
    from drivetrain.flows.fit_top import TopTrainer, plan_top
    from drivetrain.flows.fitting import fit_first_head, fit_head_on

    parser = argparse.ArgumentParser(prog="python -m bench ood-tops", description=main.__doc__)
    parser.add_argument("data", type=Path, help="clothing/train and clothing/validation in one folder")
    given, _, _ = prepare_input(parser.parse_args(argv).data, None, load_settings())
    trainer = TopTrainer(given, plan_top(given))
    penalty = fit_first_head(given).penalty
    means = given.trunk.layout.find_means(trainer.plan.cut)
    train, valid = given.train, given.valid
    train_labels, valid_labels = (np.asarray(side.targets, dtype=np.int64) for side in (train, valid))
    found: list[list[Scores]] = []
    for label, name in enumerate(given.classes):
        rows = np.flatnonzero(train_labels != label)
        kept = [at for at in range(given.n_out) if at != label]  # of its outputs: the class is one that it never saw
        network = trainer.fit(fit_head_on(given, rows, penalties=[penalty]), rows, label=f"A top without {name}")
        known = rows[choose_known(train_labels[rows], outputs=len(kept))]
        left_out, everywhere = np.flatnonzero(train_labels == label), np.arange(len(valid.items))
        of_known, of_foreign, of_valid = (
            trainer.answer(network, side, which)[:, kept]
            for side, which in ((train, known), (train, left_out), (valid, everywhere))
        )
        foreign = valid_labels == label
        halves = np.array_split(np.flatnonzero(~foreign), 2)
        for fit, judged in (halves, halves[::-1]):
            judge = Judge(
                train=train.features[rows][:, means],
                train_labels=np.searchsorted(kept, train_labels[rows]),
                known_logits=of_known,
                held=valid.features[fit][:, means],
                held_logits=of_valid[fit],
                held_labels=np.searchsorted(kept, valid_labels[fit]),
            )
            strange = judge.scores(
                np.concatenate([valid.features[foreign][:, means], train.features[left_out][:, means]]),
                np.concatenate([of_valid[foreign], of_foreign]),
            )
            ours = [judge.scores(valid.features[of][:, means], of_valid[of]) for of in (fit, judged)]
            found.append([*ours, strange])
        print(f"{name}: {measure_auroc(found[-1][1]['rule'], found[-1][2]['rule']):.3f}", flush=True)
    print_near("near, tops: AUROC of the class left out", given.classes, found)
