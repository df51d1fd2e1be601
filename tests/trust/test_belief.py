import json

import numpy as np
import pytest
from scipy.integrate import quad
from scipy.stats import beta

from drivetrain.errors import InvalidConfig
from drivetrain.trust.belief import ErrorPrior, Prior


@pytest.mark.parametrize(
    ("wins", "losses", "better", "worse"), [(1, 1, 9, 14), (8, 4, 3, 12), (0.5, 0.5, 0, 0), (17.15, 8.95, 31.5, 20.25)]
)
def test_the_posterior_is_that_of_numeric_integration(wins: float, losses: float, better: float, worse: float) -> None:
    told = Prior(wins=wins, losses=losses).update(better, worse)

    def weight(share: float) -> float:  # prior times likelihood, not normalised
        return share ** (wins - 1 + better) * (1 - share) ** (losses - 1 + worse)

    whole, above = (quad(weight, low, 1, epsabs=0, epsrel=1e-9, points=[0.5], limit=400)[0] for low in (0, 0.5))
    assert told.better == pytest.approx(above / whole, rel=1e-5)
    mean = quad(lambda share: share * weight(share), 0, 1, epsabs=0, limit=400)[0] / whole
    assert told.share == pytest.approx(mean, rel=1e-5)
    inside = quad(weight, told.share_low, told.share_high, epsabs=0)[0] / whole
    assert inside == pytest.approx(0.95, rel=1e-4)
    assert told.prior_better == pytest.approx(beta.sf(0.5, wins, losses))


@pytest.mark.parametrize(("low", "high"), [(0.5, 0.8), (0.2, 0.4), (0.01, 0.99), (0.45, 0.55), (0.9, 0.999)])
def test_two_answers_make_the_beta_that_gives_them(low: float, high: float) -> None:
    prior = Prior.between(low, high)
    assert beta.ppf([0.05, 0.95], prior.wins, prior.losses) == pytest.approx([low, high], abs=1e-6)


def test_a_prior_moves_the_posterior_and_evidence_drowns_it() -> None:
    flat, sure = Prior(wins=1, losses=1), Prior(wins=40, losses=10)
    assert sure.update(9, 14).better > 0.95 > 0.3 > flat.update(9, 14).better
    assert sure.update(900, 1400).better < 1e-6
    assert flat.update(0, 0).better == flat.update(0, 0).prior_better == 0.5


def test_huge_counts_stay_finite() -> None:
    told = Prior(wins=1, losses=1).update(500_000, 499_000)
    assert 0.83 < told.better < 0.85
    assert told.share_low < 0.5003 < told.share_high


def test_the_sentence_tells_before_and_after_and_never_certainty() -> None:
    told = Prior(wins=8, losses=4).update(9, 14)
    assert told.sentence == (
        "With the prior that was given, Beta(8, 4), the probability that the model is the better one was 89 % before "
        "these pictures and is 43 % after them; of the pictures that one of the two alone has right it wins 49 % "
        "(95 % credible, 32 to 65)."
    )
    assert "is above 99.5 % after" in Prior(wins=1, losses=1).update(90, 1).sentence
    assert "is below 0.5 % after" in Prior(wins=1, losses=1).update(1, 90).sentence
    plain = told.as_json()
    assert json.loads(json.dumps(plain, allow_nan=False)) == plain
    assert plain["sentence"] == told.sentence


@pytest.mark.parametrize("pair", [(0, 1), (1, -2), (np.nan, 1), (1, np.inf), (1, 1e7)])
def test_a_prior_is_two_numbers_above_zero(pair: tuple[float, float]) -> None:
    with pytest.raises(InvalidConfig, match=r"prior: got Beta\(.*; want two numbers above 0"):
        Prior(wins=pair[0], losses=pair[1])


@pytest.mark.parametrize(("low", "high"), [(0, 0.5), (0.5, 0.5), (0.6, 0.4), (0.5, 1), (0.5, 0.50001)])
def test_answers_that_make_no_prior_are_refused(low: float, high: float) -> None:
    with pytest.raises(InvalidConfig, match="prior: got"):
        Prior.between(low, high)


@pytest.mark.parametrize(
    ("wrong", "right", "n_wrong", "n_right", "bound"),
    [(3, 97, 7, 162, 0.1), (0.5, 0.5, 0, 0, 0.5), (2.5, 40, 1.7, 33.4, 0.05)],
)
def test_the_belief_of_errors_is_that_of_scipy(
    wrong: float, right: float, n_wrong: float, n_right: float, bound: float
) -> None:
    told = ErrorPrior(wrong=wrong, right=right).update(n_wrong, n_right, bound=bound)
    after = beta(wrong + n_wrong, right + n_right)
    assert told.share == pytest.approx(after.mean())
    assert (told.share_low, told.share_high) == pytest.approx(after.ppf([0.025, 0.975]))
    assert told.below == pytest.approx(after.cdf(bound))
    assert told.prior_below == pytest.approx(beta.cdf(bound, wrong, right))


def test_two_answers_make_a_prior_of_errors() -> None:
    prior = ErrorPrior.expected(0.03, pictures=100)
    assert (prior.wrong, prior.right) == pytest.approx((3, 97))
    told = prior.update(7, 162, bound=0.1)
    assert told.sentence == (
        "Believed before: 3 % wrong, as sure as 100 pictures. With what was seen: 3.72 % (95 % credible, 1.8 to 6.3); "
        "the chance that it is below 10 % was above 99.5 % and is above 99.5 %."
    )
    assert prior.update(7, 162).sentence.endswith("(95 % credible, 1.8 to 6.3).")
    assert json.loads(json.dumps(told.as_json(), allow_nan=False)) == told.as_json()


@pytest.mark.parametrize(("share", "pictures"), [(0, 10), (1, 10), (0.1, 0), (0.1, 2e6), (float("nan"), 10)])
def test_a_prior_of_errors_needs_two_possible_answers(share: float, pictures: float) -> None:
    with pytest.raises(InvalidConfig, match="prior"):
        ErrorPrior.expected(share, pictures=pictures)


def test_releases_that_are_alike_make_a_surer_prior() -> None:
    def worth(*counts: tuple[float, float]) -> float:
        prior = ErrorPrior.of_releases(counts)
        return prior.wrong + prior.right

    assert worth((4, 100), (4, 100), (4, 100)) == 300  # never surer than all that was seen
    assert worth((1, 100), (9, 100), (20, 100)) < 60
    assert worth((4, 1000)) == 20  # one release does not tell how much they vary
    assert worth((0, 3)) == 3
    for counts in ([], [(0, 0)], [(5, 3)]):
        with pytest.raises(InvalidConfig, match="no decisions of earlier releases"):
            ErrorPrior.of_releases(counts)


def test_releases_drawn_from_a_beta_give_that_beta_back() -> None:
    rng = np.random.default_rng(7)
    rates = rng.beta(3, 57, size=4_000)
    counts = [(float(rng.binomial(200, rate)), 200.0) for rate in rates]
    prior = ErrorPrior.of_releases(counts)
    assert prior.wrong / (prior.wrong + prior.right) == pytest.approx(0.05, abs=0.002)
    assert prior.wrong + prior.right == pytest.approx(60, rel=0.12)
