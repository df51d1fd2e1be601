"""Is the promise kept, and are known pictures flagged as seldom as stated? `python -m bench promise` prints both.

Three fifths of the pictures train once by each method; the rest, which the model has never seen, is re-split: a half
calibrates (as many as `drivetrain train` holds out by default), the other is counted. Every re-split fits what
training fits to such pictures: temperature, the scales of the out-of-domain score, the references, the threshold.
Pictures marked test, or those of `--test`, are counted by the same rules and told apart: their classes come in other
shares.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from pathlib import Path

import numpy as np
from scipy.stats import betabinom

from bench.resplits import (
    KINDS,
    Answers,
    Draw,
    check_served,
    draw_anew,
    fit_answers,
    prepare_input,
    resplit,
)
from drivetrain.flows.policy_options import PolicyOptions
from drivetrain.flows.train import METHODS
from drivetrain.settings import Settings, load_settings
from drivetrain.trust.estimate import wilson_interval


def main(argv: list[str]) -> None:
    """Print the tables of docs/promises.md and, of false flags, of docs/unknown.md."""
    parser = argparse.ArgumentParser(prog="python -m bench promise", description=main.__doc__)
    parser.add_argument("--data", type=Path, help="default: clothing of DRIVETRAIN_DATA")
    parser.add_argument("--test", type=Path, help="a folder to count apart; default: what DATA marks as test")
    parser.add_argument("--methods", nargs="+", default=["head", "auto"], choices=METHODS)
    parser.add_argument("--shares", nargs="+", type=float, default=[0.02, 0.05], help="what is promised")
    parser.add_argument("--resplits", type=int, default=200)
    parser.add_argument("--cache-dir", type=Path)
    given = parser.parse_args(argv)
    if given.data is None and not os.environ.get("DRIVETRAIN_DATA"):
        parser.error("--data, or DRIVETRAIN_DATA with clothing below it, is needed")
    data = given.data or Path(os.environ["DRIVETRAIN_DATA"], "clothing")
    settings = load_settings(flags={"cache_dir": given.cache_dir})
    measure(data, given.test, settings, methods=given.methods, shares=given.shares, resplits=given.resplits)


def measure(
    data: Path, test: Path | None, settings: Settings, *, methods: Sequence[str], shares: Sequence[float], resplits: int
) -> None:
    given, divided, apart = prepare_input(data, test, settings)
    n_train, n_held = len(given.train.items), len(given.valid.items)
    print(f"{n_train:,} pictures train, {n_held:,} are re-split {resplits} times; {len(apart):,} are of the test")
    for method in methods:
        answers = fit_answers(method, given, divided, apart)
        check_served(answers)
        options = {share: PolicyOptions(max_error=share) for share in shares}
        halves = {share: list(resplit(answers, asked, resplits)) for share, asked in options.items()}
        anew = {share: list(draw_anew(answers, asked, resplits)) for share, asked in options.items()}
        _print_promises(answers, halves, anew)
        first = halves[shares[0]]  # what is flagged does not depend on what is promised
        _print_flags(answers, "other half", [counted for counted, _ in first])
        if len(apart):
            _print_test(answers, {share: [told for _, told in draws] for share, draws in halves.items()})
            _print_flags(answers, "test", [told for _, told in first])


def _print_promises(
    answers: Answers, halves: Mapping[float, list[tuple[Draw, Draw]]], anew: Mapping[float, list[Draw]]
) -> None:
    print(
        f"\n{'method':<8}{'share':>6}{'promised':>10}{'decides':>9}{'wrong':>8}{'more wrong than that':>22}"
        f"{'surely':>8}{'drawn anew: broken':>27}{'decides':>9}"
    )
    for share, draws in halves.items():
        again = anew[share]
        n_broken = sum(one.is_broken(share) for one in again)
        low, high = wilson_interval(n_broken, len(again))
        told = f"{100 * n_broken / len(again):.1f} % ({100 * low:.1f} to {100 * high:.1f})"
        print(f"{_tell(answers, share, [one for one, _ in draws])}{told:>27}{_decided(again):>9}", flush=True)


def _print_test(answers: Answers, draws: Mapping[float, list[Draw]]) -> None:
    mixes = [
        np.bincount(answers.labels[rows], minlength=len(answers.classes)) / len(rows)
        for rows in (np.arange(answers.held), answers.test)
    ]
    moved = 50 * float(np.abs(mixes[0] - mixes[1]).sum())
    print(f"the same promises on {len(answers.test):,} pictures of the test ({moved:.1f} % of it in another class):")
    for share, of_share in draws.items():
        print(_tell(answers, share, of_share), flush=True)


def _tell(answers: Answers, share: float, draws: Sequence[Draw]) -> str:
    def rate(is_so: Callable[[Draw], bool]) -> str:
        return f"{100 * sum(map(is_so, draws)) / len(draws):.1f} %"

    promised = [one for one in draws if one.is_promised]
    wrong = sum(one.n_wrong for one in promised) / max(1, sum(one.n_decided for one in promised))
    return (
        f"{answers.method:<8}{100 * share:>4.0f} %{rate(lambda one: one.is_promised):>10}{_decided(draws):>9}"
        f"{100 * wrong:>6.2f} %{rate(lambda one: one.is_broken(share)):>22}"
        f"{rate(lambda one: one.is_surely_broken(share)):>8}"
    )


def _decided(draws: Sequence[Draw]) -> str:
    return f"{100 * float(np.mean([one.n_decided / one.n for one in draws if one.is_promised] or [0])):.1f} %"


def _print_flags(answers: Answers, where: str, draws: Sequence[Draw]) -> None:
    """Each kind's rate beside what is stated, and how many re-splits lie in the interval that it then has."""
    print(f"{'method':<8}{'flagged of the ' + where:<26}{'stated':>12}{'mean':>9}{'spread':>9}{'within':>9}   interval")
    for kind in KINDS:
        stated = [_state(one.n_reference, one.n, kind) for one in draws]
        rates = np.array([one.flagged[kind] / one.n for one in draws])
        within = np.mean([low <= rate <= high for rate, (_, low, high) in zip(rates, stated, strict=True)])
        mean, low, high = (100 * float(np.mean(column)) for column in zip(*stated, strict=True))
        at_most = "<= " if kind == "either" else ""
        print(
            f"{answers.method:<8}{kind:<26}{f'{at_most}{mean:.2f} %':>12}{100 * rates.mean():>7.2f} %"
            f"{100 * rates.std(ddof=1):>7.2f} %{100 * within:>7.1f} %   {low:.1f} to {high:.1f} %"
        )


@cache
def _state(n_reference: int, n: int, kind: str) -> tuple[float, float, float]:
    """(expected rate, 95 % interval) of n pictures like the `n_reference`: beta-binomial, for all share one reference.

    Of either: as if no picture were both, which gives the most.
    """
    alphas = dict(zip(KINDS, PolicyOptions().share_alpha(with_style=True), strict=False))
    alphas = alphas if kind == "either" else {kind: alphas[kind]}
    allowed = sum(int(alpha * (n_reference + 1) + 1e-9) for alpha in alphas.values())
    law = betabinom(n, allowed, n_reference + 1 - allowed)
    return law.mean() / n, law.ppf(0.025) / n, law.ppf(0.975) / n
