from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from drivetrain.errors import InvalidConfig
from drivetrain.learn.losses import (
    BinaryCrossEntropy,
    CrossEntropy,
    Huber,
    ItemLoss,
    SquaredError,
    balanced_weights,
    choose_loss,
    describe_loss,
    item_losses,
)

LOGITS = torch.tensor([[2.0, 0.5, -1.0], [0.1, 0.2, 0.3], [-3.0, 1.0, 1.0], [0.0, 0.0, 4.0]])
LABELS = torch.tensor([0, 1, 2, 0])
MARKS = F.one_hot(LABELS, 3).float()


def test_cross_entropy_is_torchs() -> None:
    assert CrossEntropy()(LOGITS, LABELS) == F.cross_entropy(LOGITS, LABELS)
    smooth = CrossEntropy(label_smoothing=0.2)(LOGITS, LABELS)
    assert smooth == F.cross_entropy(LOGITS, LABELS, label_smoothing=0.2)
    assert smooth != CrossEntropy()(LOGITS, LABELS)


def test_weights_multiply_and_the_sum_is_divided_by_items() -> None:
    weighted = CrossEntropy((3.0, 1.0, 0.0)).per_item(LOGITS, LABELS)
    plain = CrossEntropy().per_item(LOGITS, LABELS)
    assert torch.allclose(weighted, plain * torch.tensor([3.0, 1.0, 0.0, 3.0]))


def test_labels_may_be_shares() -> None:
    for loss in (CrossEntropy(), CrossEntropy((3.0, 1.0, 0.5))):
        assert torch.allclose(loss.per_item(LOGITS, MARKS), loss.per_item(LOGITS, LABELS))
    mixed = (MARKS + MARKS.flip(0)) / 2
    assert torch.isfinite(CrossEntropy((3.0, 1.0, 0.5))(LOGITS, mixed))


def test_a_yes_or_no_for_each_label() -> None:
    assert torch.allclose(BinaryCrossEntropy()(LOGITS, MARKS), F.binary_cross_entropy_with_logits(LOGITS, MARKS))
    weights = torch.tensor([5.0, 1.0, 2.0])
    wanted = F.binary_cross_entropy_with_logits(LOGITS, MARKS, pos_weight=weights)
    assert torch.allclose(BinaryCrossEntropy((5.0, 1.0, 2.0))(LOGITS, MARKS), wanted)


def test_values() -> None:
    assert torch.allclose(SquaredError()(LOGITS, MARKS), F.mse_loss(LOGITS, MARKS))
    assert torch.allclose(Huber(delta=0.5)(LOGITS, MARKS), F.huber_loss(LOGITS, MARKS, delta=0.5))


@pytest.mark.parametrize("loss", [CrossEntropy((3.0, 1.0, 0.5)), BinaryCrossEntropy(), SquaredError(), Huber()])
def test_parts_of_a_batch_add_up(loss: ItemLoss) -> None:
    targets = LABELS if isinstance(loss, CrossEntropy) else MARKS
    whole = loss(LOGITS, targets)
    parts = loss(LOGITS[:3], targets[:3]) * 0.75 + loss(LOGITS[3:], targets[3:]) * 0.25
    assert torch.allclose(whole, parts)


def test_balanced_weights() -> None:
    assert balanced_weights(np.array([0, 0, 0, 1]), 2) == pytest.approx((4 / 6, 2.0))
    assert balanced_weights(np.array([0, 0, 0, 2]), 3) == pytest.approx((4 / 6, 1.0, 2.0))  # none of label 1
    marks = np.array([[1, 0, 1], [0, 0, 1], [0, 0, 1], [0, 0, 1]], dtype=np.float32)
    assert balanced_weights(marks, 3) == (3.0, 1.0, 1.0)


def choose(task: Any, given: Any = None, **options: Any) -> Any:
    targets = {"classification": LABELS.numpy(), "multilabel": MARKS.numpy(), "regression": LOGITS.numpy()}[task]
    return choose_loss(task, given, targets=targets, n_out=3, **options)


def test_each_task_has_its_own() -> None:
    assert choose("classification", label_smoothing=0.1) == CrossEntropy(label_smoothing=0.1)
    assert choose("classification", class_weights="balanced").weights == pytest.approx((2 / 3, 4 / 3, 4 / 3))
    assert choose("classification", class_weights=np.array([1, 2, 3])).weights == (1.0, 2.0, 3.0)
    assert choose("multilabel", class_weights="balanced") == BinaryCrossEntropy((1.0, 3.0, 3.0))
    assert choose("regression") == SquaredError()
    mine = nn.L1Loss()
    assert choose("regression", mine) is mine


@pytest.mark.parametrize(
    ("task", "given", "options", "told"),
    [
        ("regression", None, {"class_weights": "balanced"}, "class_weights: got it for regression"),
        ("multilabel", None, {"label_smoothing": 0.1}, "label_smoothing: got it for multilabel"),
        ("classification", CrossEntropy(), {"label_smoothing": 0.1}, r"CrossEntropy\(label_smoothing=...\)"),
        ("classification", CrossEntropy(), {"class_weights": [1, 1, 1]}, r"CrossEntropy\(weights=...\)"),
        ("classification", None, {"label_smoothing": 1.0}, "want a share, 0 to below 1"),
        ("classification", None, {"class_weights": [1, 2]}, 'want "balanced", or 3 numbers'),
        ("classification", None, {"class_weights": [0, 0, 0]}, "class_weights"),
        ("classification", None, {"class_weights": "even"}, "class_weights: got even"),
        ("classification", CrossEntropy, {}, r"Call it: CrossEntropy\(\)"),
        ("classification", "ce", {}, "loss_func: got ce"),
    ],
)
def test_an_option_that_would_be_ignored_is_refused(task: str, given: Any, options: Any, told: str) -> None:
    with pytest.raises(InvalidConfig, match=told):
        choose(task, given, **options)


def test_any_loss_by_item() -> None:
    mine = nn.CrossEntropyLoss()
    assert torch.allclose(item_losses(mine, LOGITS, LABELS), CrossEntropy().per_item(LOGITS, LABELS))
    assert describe_loss(mine) == {"name": "CrossEntropyLoss"}
    assert describe_loss(Huber(2.0)) == {"name": "Huber", "delta": 2.0}
