"""One score from several: against a slow direct computation, and what it promises to be."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from drivetrain.trust.ood import find_surest, normalise_roots
from drivetrain.trust.ood_rule import OodRule, Scale, Surroundings, fit_rule, fit_scale
from drivetrain.trust.ood_space import fit_gaussian, fit_space

D, RANK, CLASSES, T = 18, 6, 3, 1.3


def make_features(n: int, *, seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(features (n, D), labels (n,), logits (n, CLASSES)) of three classes."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, CLASSES, size=n)
    features = np.abs(rng.normal(size=(n, D)) + 4 * np.eye(CLASSES, D)[labels] + 2).astype(np.float32)
    return features, labels, 3 * np.eye(CLASSES)[labels] + rng.normal(size=(n, CLASSES))


def make_rule(*, by_class: bool = True) -> OodRule:
    features, labels, known = make_features(200, seed=0)
    rows = normalise_roots(features)
    space = fit_space(rows, rank=RANK)
    held, _, logits = make_features(120, seed=1)
    if by_class:
        around = Surroundings(space=space, known=known.astype(np.float32), k=2)
        return fit_rule(around, held, logits, logits / T)
    coordinates = space.project(rows)
    gaussian = fit_gaussian(coordinates, np.zeros_like(labels))
    return fit_rule(Surroundings(space=space, known=coordinates, k=2, gaussian=gaussian), held, None, None)


def standard(values: np.ndarray, on: np.ndarray) -> np.ndarray:
    return (values - on.mean()) / on.std()


@pytest.mark.parametrize("by_class", [True, False])
def test_scores_equal_a_slow_computation(by_class: bool) -> None:
    rule = make_rule(by_class=by_class)
    around = rule.surroundings
    held, _, held_logits = make_features(120, seed=1)
    asked, _, asked_logits = make_features(50, seed=2)
    asked[:10] = np.random.default_rng(3).exponential(size=(10, D)) ** 3  # of another kind
    both, logits = np.concatenate([held, asked]), np.concatenate([held_logits, asked_logits])
    rows = np.sign(both) * np.sqrt(np.abs(both))
    rows = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    apart = rows - around.space.centre
    places = apart @ around.space.basis.T
    rest = np.square(apart - places @ around.space.basis).sum(axis=1)
    among = logits if by_class else places
    nearest = np.sort(np.linalg.norm(among[:, None] - around.known[None], axis=2), axis=1)[:, 1]
    n = len(held)
    if by_class:
        near = standard(nearest, nearest[:n])
        shares = np.exp(logits / T)
        energy = -np.log(shares.sum(axis=1))
        near += standard(energy, energy[:n])
        doubt = np.log(1 - shares.max(axis=1) / shares.sum(axis=1))
        near += 0.5 * standard(doubt, doubt[:n])
    else:
        assert around.gaussian is not None
        white = places @ around.gaussian.whiten.T
        to_all = np.square(white - around.gaussian.means[0]).sum(axis=1)
        near = 0.5 * standard(nearest, nearest[:n]) + 0.25 * standard(to_all, to_all[:n])
    total = standard(near, near[:n]) + 2 * np.maximum(0, standard(rest, rest[:n]) - 2.1)
    told = rule.scores(asked, asked_logits, asked_logits / T) if by_class else rule.scores(asked)
    np.testing.assert_allclose(told, standard(total, total[:n])[n:], rtol=2e-3, atol=2e-3)
    assert (rest[n : n + 10] > rest[:n].max()).any()  # some are so far that the hinge counts


def test_scores_are_standard_on_what_they_were_fitted_to() -> None:
    held, _, logits = make_features(120, seed=1)
    scores = make_rule().scores(held, logits, logits / T)
    assert scores.mean() == pytest.approx(0, abs=1e-6)
    assert scores.std() == pytest.approx(1, abs=1e-6)


def test_scores_know_no_bound() -> None:
    """A rank or a p-value ends at 1; a score goes on telling what is stranger."""
    rule = make_rule()
    _, _, logits = make_features(1, seed=4)
    energies = [float(rule.scores(np.ones((1, D)), logits, logits - down)[0]) for down in (0, 10, 100, 1_000, 1e6)]
    assert energies == sorted(energies)
    assert energies[-1] > 1e4


def test_company_and_order_do_not_matter() -> None:
    rule = make_rule()
    asked, _, logits = (each.astype(np.float32) for each in make_features(700, seed=5))
    scores = rule.scores(asked, logits, logits / T)
    alone = [rule.score(asked[at], logits[at], find_surest(logits[at] / T)) for at in range(0, 700, 70)]
    np.testing.assert_array_equal(scores[::70], alone)
    np.testing.assert_array_equal(rule.scores(asked[::-1], logits[::-1], logits[::-1] / T)[::-1], scores)


def test_the_length_of_features_does_not_matter() -> None:
    rule = make_rule()
    asked, _, logits = make_features(20, seed=6)
    np.testing.assert_allclose(rule.scores(9 * asked, logits, logits), rule.scores(asked, logits, logits), atol=1e-4)


@pytest.mark.parametrize(
    ("by_class", "name"),
    [(True, "energy"), (True, "doubt"), (True, "neighbour"), (False, "neighbour"), (False, "mahalanobis")],
)
def test_every_part_counts(by_class: bool, name: str) -> None:
    rule = make_rule(by_class=by_class)
    asked, _, logits = make_features(20, seed=7)
    without = replace(rule, parts={key: part for key, part in rule.parts.items() if key != name})
    told = [one.scores(asked, logits, logits / T) for one in (rule, without)]
    assert np.abs(told[0] - told[1]).min() > 1e-6


def test_far_counts_from_its_hinge_on() -> None:
    rule = make_rule()
    asked, _, logits = make_features(20, seed=8)
    near = replace(rule, far=replace(rule.far, weight=0.0))
    told = [one.scores(asked, logits, logits / T) for one in (near, rule)]
    assert (np.abs(told[0] - told[1]) < 1e-6).mean() >= 0.9  # nearly all known pictures lie below it
    assert (told[1] >= told[0]).all()
    far = np.zeros((1, D))
    far[0, -1] = 1.0  # all in a column where the known differ little
    one = logits[:1]
    assert rule.scores(far, one, one / T)[0] > near.scores(far, one, one / T)[0] + 1


def test_a_rule_without_classes_looks_at_no_logits() -> None:
    rule = make_rule(by_class=False)
    asked, _, logits = make_features(20, seed=9)
    assert not rule.surroundings.by_class
    np.testing.assert_array_equal(rule.scores(asked, logits, logits / T), rule.scores(asked))


@pytest.mark.parametrize("values", [[3.0], [2.0, 2.0, 2.0], [1e9, 1e9]])
def test_a_scale_of_equal_numbers_divides_by_one(values: list[float]) -> None:
    assert fit_scale(np.array(values)) == Scale(values[0], 1.0)


def test_a_scale_is_mean_and_standard_deviation() -> None:
    assert fit_scale(np.array([1.0, 3.0])) == Scale(2.0, 1.0)
    assert fit_scale(np.array([1.0, 7.0])) == Scale(4.0, 3.0)
    assert [Scale(4.0, 3.0).apply(value) for value in (1.0, 7.0)] == [-1, 1]


def test_energy_is_of_calibrated_logits_and_neighbours_are_of_the_networks_own() -> None:
    """At another temperature energy is another score; the distance between answers must not change with it."""
    rule = make_rule()
    asked, _, logits = make_features(1, seed=10)
    told, _ = rule.surroundings.measure(asked[0], logits[0])
    assert set(told) == {"neighbour"}
    assert rule.scores(asked, logits, logits / 2)[0] != pytest.approx(rule.scores(asked, logits, logits)[0])
    apart = np.linalg.norm(logits[0] - rule.surroundings.known, axis=1)
    assert told["neighbour"] == pytest.approx(np.sort(apart)[1], rel=1e-3)
