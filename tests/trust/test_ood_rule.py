"""One score from several: against a slow direct computation, and what it promises to be."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from drivetrain.trust.ood import measure_energy, normalise_roots
from drivetrain.trust.ood_rule import OodRule, Scale, Surroundings, fit_rule, fit_scale
from drivetrain.trust.ood_space import fit_gaussian, fit_space

D, RANK, CLASSES = 18, 6, 3


def make_features(n: int, *, seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(features (n, D), labels (n,), calibrated logits (n, CLASSES)) of three classes."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, CLASSES, size=n)
    features = np.abs(rng.normal(size=(n, D)) + 4 * np.eye(CLASSES, D)[labels] + 2).astype(np.float32)
    return features, labels, 3 * np.eye(CLASSES)[labels] + rng.normal(size=(n, CLASSES))


def make_rule(*, with_logits: bool = True) -> OodRule:
    features, labels, _ = make_features(200, seed=0)
    rows = normalise_roots(features)
    space = fit_space(rows, rank=RANK)
    coordinates, _ = space.project(rows)
    gaussian = fit_gaussian(coordinates, labels if with_logits else np.zeros(200, np.int64))
    held, _, logits = make_features(120, seed=1)
    around = Surroundings(space=space, gaussian=gaussian, known=coordinates, k=2)
    return fit_rule(around, held, logits if with_logits else None)


def standard(values: np.ndarray, on: np.ndarray) -> np.ndarray:
    return (values - on.mean()) / on.std()


@pytest.mark.parametrize("with_logits", [True, False])
def test_scores_equal_a_slow_computation(with_logits: bool) -> None:
    rule = make_rule(with_logits=with_logits)
    around = rule.surroundings
    held, _, held_logits = make_features(120, seed=1)
    asked, _, asked_logits = make_features(50, seed=2)
    asked[:10] = np.random.default_rng(3).exponential(size=(10, D)) ** 3  # of another kind
    both, both_logits = np.concatenate([held, asked]), np.concatenate([held_logits, asked_logits])
    rows = np.sign(both) * np.sqrt(np.abs(both))
    rows = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    apart = rows - around.space.centre
    places = apart @ around.space.basis.T
    rest = np.square(apart - places @ around.space.basis).sum(axis=1)
    nearest = np.sort(np.linalg.norm(places[:, None] - around.known[None], axis=2), axis=1)[:, 1]
    white = places @ around.gaussian.whiten.T
    to_class = np.square(white[:, None] - around.gaussian.means[None]).sum(axis=2).min(axis=1)
    to_all = np.square(places * around.gaussian.background).sum(axis=1)
    n = len(held)
    near = 0.5 * standard(nearest, nearest[:n])
    if with_logits:
        near += 0.25 * standard(to_class - to_all, (to_class - to_all)[:n])
        energy = -np.log(np.exp(both_logits).sum(axis=1))
        near += standard(energy, energy[:n])
        doubt = np.log(1 - np.exp(both_logits).max(axis=1) / np.exp(both_logits).sum(axis=1))
        near += 0.5 * standard(doubt, doubt[:n])
    else:
        near += 0.25 * standard(to_class, to_class[:n])
    total = standard(near, near[:n]) + 2 * np.maximum(0, standard(rest, rest[:n]) - 2.5)
    told = rule.scores(asked, asked_logits if with_logits else None)
    np.testing.assert_allclose(told, standard(total, total[:n])[n:], rtol=2e-3, atol=2e-3)
    assert (rest[n : n + 10] > rest[:n].max()).any()  # some are so far that the hinge counts


def test_scores_are_standard_on_what_they_were_fitted_to() -> None:
    held, _, logits = make_features(120, seed=1)
    scores = make_rule().scores(held, logits)
    assert scores.mean() == pytest.approx(0, abs=1e-6)
    assert scores.std() == pytest.approx(1, abs=1e-6)


def test_scores_know_no_bound() -> None:
    """A rank or a p-value ends at 1; a score goes on telling what is stranger."""
    rule = make_rule()
    _, _, logits = make_features(1, seed=4)
    energies = [float(rule.scores(np.ones((1, D)), logits - down)[0]) for down in (0, 10, 100, 1_000, 1e6)]
    assert energies == sorted(energies)
    assert energies[-1] > 1e4


def test_company_and_order_do_not_matter() -> None:
    rule = make_rule()
    asked, _, logits = make_features(700, seed=5)  # more than a block
    scores = rule.scores(asked, logits)
    alone = [rule.scores(asked[at : at + 1], logits[at : at + 1])[0] for at in range(0, 700, 70)]
    np.testing.assert_allclose(scores[::70], alone, atol=1e-5)
    np.testing.assert_allclose(rule.scores(asked[::-1], logits[::-1])[::-1], scores, atol=1e-5)


def test_the_length_of_features_does_not_matter() -> None:
    rule = make_rule()
    asked, _, logits = make_features(20, seed=6)
    np.testing.assert_allclose(rule.scores(9 * asked, logits), rule.scores(asked, logits), atol=1e-4)


@pytest.mark.parametrize("name", ["energy", "doubt", "neighbour", "mahalanobis"])
def test_every_part_counts(name: str) -> None:
    rule = make_rule()
    asked, _, logits = make_features(20, seed=7)
    without = replace(rule, parts={key: part for key, part in rule.parts.items() if key != name})
    assert np.abs(without.scores(asked, logits) - rule.scores(asked, logits)).min() > 1e-6


def test_far_counts_from_its_hinge_on() -> None:
    rule = make_rule()
    asked, _, logits = make_features(20, seed=8)
    near = replace(rule, far=replace(rule.far, weight=0.0))
    np.testing.assert_allclose(near.scores(asked, logits), rule.scores(asked, logits), atol=1e-6)
    far = np.zeros((1, D))
    far[0, -1] = 1.0  # all in a column where the known differ little
    assert rule.scores(far, logits[:1])[0] > near.scores(far, logits[:1])[0] + 1


def test_a_rule_without_classes_looks_at_no_logits() -> None:
    rule = make_rule(with_logits=False)
    asked, _, logits = make_features(20, seed=9)
    assert not rule.has_classes
    np.testing.assert_array_equal(rule.scores(asked, logits), rule.scores(asked))


@pytest.mark.parametrize("values", [[3.0], [2.0, 2.0, 2.0], [1e9, 1e9]])
def test_a_scale_of_equal_numbers_divides_by_one(values: list[float]) -> None:
    assert fit_scale(np.array(values)) == Scale(values[0], 1.0)


def test_a_scale_is_mean_and_standard_deviation() -> None:
    assert fit_scale(np.array([1.0, 3.0])) == Scale(2.0, 1.0)
    assert fit_scale(np.array([1.0, 7.0])) == Scale(4.0, 3.0)
    np.testing.assert_allclose(Scale(4.0, 3.0).apply(np.array([1.0, 7.0])), [-1, 1])


def test_energy_is_of_the_logits_given() -> None:
    """Calibrated ones: at another temperature it is another score."""
    logits = np.array([[2.0, 0.0], [0.5, 0.0]])
    assert measure_energy(logits)[0] != pytest.approx(measure_energy(logits / 2)[0])
