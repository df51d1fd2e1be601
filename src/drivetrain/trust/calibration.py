"""Probabilities that mean what they say: softmax, temperature and bias. numpy only: serving needs this."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from drivetrain.arrays import BoolArray, FloatArray, IntArray
from drivetrain.errors import InvalidInput

__all__ = [
    "fit_bias_corrected",
    "fit_label_temperature",
    "fit_temperature",
    "log_sigmoid",
    "log_softmax",
    "scale_logits",
    "sigmoid",
    "softmax",
]

_LOG_T_BOUNDS = (-3.0, 3.0)  # T from 0.05 to 20; beyond it the labels carry no more information
_NEWTON_STEPS, _HALVINGS = 50, 30


def log_softmax(logits: FloatArray, *, temperature: float = 1.0) -> FloatArray:
    """log of softmax(logits / T) along the last axis, in float64, stable for any finite logits."""
    scaled = np.asarray(logits, dtype=np.float64) / temperature
    scaled = scaled - scaled.max(axis=-1, keepdims=True)
    out: FloatArray = scaled - np.log(np.exp(scaled).sum(axis=-1, keepdims=True))
    return out


def softmax(logits: FloatArray, *, temperature: float = 1.0) -> FloatArray:
    """softmax(logits / T) along the last axis, in float64; rows sum to 1."""
    out: FloatArray = np.exp(log_softmax(logits, temperature=temperature))
    return out


def scale_logits(logits: FloatArray, *, temperature: float, bias: FloatArray | None = None) -> FloatArray:
    """logits / T + b in float64, of (k,) or (n, k): what softmax makes calibrated probabilities of; b is (k,)."""
    scaled: FloatArray = np.asarray(logits, dtype=np.float64) / temperature
    return scaled if bias is None else scaled + bias


def fit_temperature(logits: FloatArray, labels: IntArray) -> float:
    """The T > 0 that minimises the log-loss of softmax(logits / T), within [0.05, 20]; the likeliest class stays so.

    logits is (n, k), labels (n,) in [0, k), neither trained nor selected on. To the n labels comes one that is spread
    evenly over pictures and classes: without it, n right answers would make the model sure of everything, with it they
    say an error in some n. The loss is convex in 1/T, so a bracketing search finds the one minimum. Raises InvalidInput
    if n is 0. Source: Guo et al. 2017, arXiv:1706.04599, section 4.2; the added label as in Platt 1999, section 2.2.
    """
    _check_set(logits, labels)
    rows = np.arange(len(labels))

    def loss(log_t: float) -> float:
        log_probs = log_softmax(logits, temperature=float(np.exp(log_t)))
        return float(-log_probs[rows, labels].sum() - log_probs.mean())

    return float(np.exp(_minimise(loss)))


def fit_bias_corrected(logits: FloatArray, labels: IntArray) -> tuple[float, FloatArray]:
    """T in [0.05, 20] and b (k,), which sums to 0, that minimise the log-loss of softmax(logits / T + b).

    Shapes, the added label and errors as for `fit_temperature`. Each b has besides a normal prior of deviation 1: a
    class of few pictures keeps a b near 0, where T alone leaves it. Other than T, b moves the likeliest class of
    pictures near a border. Convex in (1/T, b): Newton's steps, halved until the loss falls.
    Source: Alexandari, Kundaje and Shrikumar 2020, arXiv:1901.06852 (bias-corrected temperature scaling).
    """
    _check_set(logits, labels)
    z = np.asarray(logits, dtype=np.float64)
    z = z - z.mean(axis=1, keepdims=True)
    n, k = z.shape
    target = np.eye(k)[labels] + 1 / (n * k)  # rows sum to 1 + 1/n: the added label is spread over all pictures
    low, high = np.exp(-_LOG_T_BOUNDS[1]), np.exp(-_LOG_T_BOUNDS[0])  # of 1/T

    def loss(at: FloatArray) -> float:
        return float(-(target * log_softmax(at[0] * z + at[1:])).sum() + 0.5 * at[1:] @ at[1:])

    at = np.concatenate([[1 / fit_temperature(logits, labels)], np.zeros(k)])
    now = loss(at)
    for _ in range(_NEWTON_STEPS):
        gradient, curvature = _derive(z, target, at)
        step = np.linalg.solve(curvature, gradient)
        for halving in range(_HALVINGS):
            tried = at - step / 2**halving
            tried[0] = np.clip(tried[0], low, high)
            if (after := loss(tried)) < now:
                break
        else:
            break
        at, gained, now = tried, now - after, after
        if gained < 1e-10 * n:
            break
    return float(1 / at[0]), at[1:] - at[1:].mean()


def _derive(z: FloatArray, target: FloatArray, at: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Gradient (1 + k,) and second derivatives (1 + k, 1 + k) of the loss of `fit_bias_corrected` at (1/T, b)."""
    n, k = z.shape
    weight = 1 + 1 / n
    probs = softmax(at[0] * z + at[1:])
    residual = weight * probs - target
    gradient = np.concatenate([[(residual * z).sum()], residual.sum(axis=0) + at[1:]])
    mean = (probs * z).sum(axis=1, keepdims=True)
    curvature = np.empty((1 + k, 1 + k))
    curvature[0, 0] = weight * (probs * (z - mean) ** 2).sum() + 1e-12  # logits all alike have none
    curvature[0, 1:] = curvature[1:, 0] = weight * (probs * (z - mean)).sum(axis=0)
    curvature[1:, 1:] = weight * (np.diag(probs.sum(axis=0)) - probs.T @ probs) + np.eye(k)
    return gradient, curvature


def _check_set(logits: FloatArray, labels: IntArray) -> None:
    if len(labels) == 0 or len(labels) != len(logits):
        got = f"{len(logits)} logits, {len(labels)} labels"
        raise InvalidInput("calibration set", got=got, want="one or more, as many of each")


def log_sigmoid(log_odds: FloatArray) -> FloatArray:
    """log of 1 / (1 + exp(-x)), element by element, in float64, stable for any finite x."""
    x = np.asarray(log_odds, dtype=np.float64)
    out: FloatArray = np.minimum(x, 0.0) - np.log1p(np.exp(-np.abs(x)))
    return out


def sigmoid(log_odds: FloatArray) -> FloatArray:
    """1 / (1 + exp(-x)), element by element, in float64."""
    out: FloatArray = np.exp(log_sigmoid(log_odds))
    return out


def fit_label_temperature(logits: FloatArray, is_present: BoolArray) -> float:
    """The T > 0 that minimises the log-loss of sigmoid(logits / T) for one label, within [0.05, 20].

    logits and is_present are (n,). One label more is spread evenly over pictures and the two answers, as in
    `fit_temperature`, whose source this is. Raises InvalidInput if n is 0.
    """
    if len(is_present) == 0 or is_present.shape != logits.shape:
        got = f"{len(logits)} logits, {len(is_present)} labels"
        raise InvalidInput("calibration set", got=got, want="one or more, as many of each")
    true_side = np.where(is_present, 1.0, -1.0)

    def loss(log_t: float) -> float:
        scaled = np.asarray(logits, dtype=np.float64) / float(np.exp(log_t))
        spread = 0.5 * (log_sigmoid(scaled) + log_sigmoid(-scaled)).mean()
        return float(-log_sigmoid(true_side * scaled).sum() - spread)

    return float(np.exp(_minimise(loss)))


def _minimise(loss: Callable[[float], float]) -> float:
    """The log T in _LOG_T_BOUNDS at which a loss with one minimum has it."""
    low, high = _LOG_T_BOUNDS
    ratio = (5**0.5 - 1) / 2  # golden section: unimodal, no derivative, 40 steps give 1e-8
    a, b = high - ratio * (high - low), low + ratio * (high - low)
    loss_a, loss_b = loss(a), loss(b)
    for _ in range(40):
        if loss_a <= loss_b:
            high, b, loss_b = b, a, loss_a
            a = high - ratio * (high - low)
            loss_a = loss(a)
        else:
            low, a, loss_a = a, b, loss_b
            b = low + ratio * (high - low)
            loss_b = loss(b)
    return (low + high) / 2
