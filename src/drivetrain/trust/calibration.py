"""Probabilities that mean what they say: softmax and temperature scaling. numpy only: serving needs this."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from drivetrain.arrays import BoolArray, FloatArray, IntArray
from drivetrain.errors import InvalidInput

__all__ = ["fit_label_temperature", "fit_temperature", "log_sigmoid", "log_softmax", "sigmoid", "softmax"]

_LOG_T_BOUNDS = (-3.0, 3.0)  # T from 0.05 to 20; beyond it the labels carry no more information


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


def fit_temperature(logits: FloatArray, labels: IntArray) -> float:
    """The T > 0 that minimises the log-loss of softmax(logits / T), within [0.05, 20].

    logits is (n, k), labels (n,) in [0, k), neither trained nor selected on. To the n labels comes one that is spread
    evenly over pictures and classes: without it, n right answers would make the model sure of everything, with it they
    say an error in some n. The loss is convex in 1/T, so a bracketing search finds the one minimum. Raises InvalidInput
    if n is 0. Source: Guo et al. 2017, arXiv:1706.04599, section 4.2; the added label as in Platt 1999, section 2.2.
    """
    if len(labels) == 0 or len(labels) != len(logits):
        got = f"{len(logits)} logits, {len(labels)} labels"
        raise InvalidInput("calibration set", got=got, want="one or more, as many of each")
    rows = np.arange(len(labels))

    def loss(log_t: float) -> float:
        log_probs = log_softmax(logits, temperature=float(np.exp(log_t)))
        return float(-log_probs[rows, labels].sum() - log_probs.mean())

    return float(np.exp(_minimise(loss)))


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
