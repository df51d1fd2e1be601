from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from drivetrain.data.getters import parent_label
from drivetrain.errors import InvalidInput
from drivetrain.learn.blocks import CategoryBlock, ImageBlock, TransformBlock
from drivetrain.learn.targets import (
    Deviations,
    decode_answers,
    describe_items,
    find_task,
    output_names,
    read_targets,
    tell_answer,
    to_answers,
)

from .makers import make_dls


@pytest.mark.parametrize(
    ("target", "task", "names", "shape", "dtype"),
    [
        ("label", "classification", ["circle", "square", "stripes"], (27,), np.int64),
        ("labels", "multilabel", ["edged", "plain", "round"], (27, 3), np.float32),
        ("value", "regression", ["value"], (27, 1), np.float32),
    ],
)
def test_the_block_says_the_task(shapes: Path, target: str, task: Any, names: Any, shape: Any, dtype: Any) -> None:
    dls = make_dls(shapes, target=target)
    assert find_task(dls) == task
    assert output_names(dls, task) == names
    targets = read_targets(dls.train_ds, task)
    assert (targets.shape, targets.dtype) == (shape, dtype)


def test_what_we_cannot_train_for(shapes: Path) -> None:
    two = make_dls(shapes, blocks=(ImageBlock, CategoryBlock, CategoryBlock), n_inp=1, get_y=[parent_label] * 2)
    with pytest.raises(InvalidInput, match="1 inputs and 2 targets"):
        find_task(two)
    own = make_dls(shapes, blocks=(ImageBlock, TransformBlock(lambda path: 1.0)))
    with pytest.raises(InvalidInput, match="a target of a kind of its own"):
        find_task(own)


def test_answers_are_what_a_person_reads() -> None:
    logits = torch.tensor([[2.0, -1.0], [0.0, 0.5]])
    assert torch.equal(to_answers(logits, "classification"), logits.softmax(1))
    assert torch.equal(to_answers(logits, "multilabel"), logits.sigmoid())
    assert torch.equal(to_answers(logits, "regression"), logits)
    assert decode_answers(logits.softmax(1), "classification").tolist() == [0, 1]
    assert decode_answers(logits.sigmoid(), "multilabel").tolist() == [[True, False], [False, True]]
    assert decode_answers(logits.sigmoid(), "multilabel", thresh=0.9).tolist() == [[False, False]] * 2
    assert tell_answer(torch.tensor(1), "classification", ("a", "b")) == "b"
    assert tell_answer(torch.tensor([True, False]), "multilabel", ("a", "b")) == ["a"]
    assert tell_answer(torch.tensor([1.5]), "regression", None) == 1.5
    assert tell_answer(torch.tensor([1.5, 2.5]), "regression", None) == [1.5, 2.5]


def test_deviations_turn_a_layer_there_and_back() -> None:
    targets = np.array([[1000.0, 0.1, 7.0], [3000.0, 0.3, 7.0]], dtype=np.float32)
    deviations = Deviations.of(targets)
    assert deviations.std[2] == 1.0  # one value alone
    values = torch.from_numpy(targets)
    assert torch.allclose(deviations.from_units(values), torch.tensor([[-1.0, -1.0, 0.0], [1.0, 1.0, 0.0]]))
    assert torch.allclose(deviations.to_units(deviations.from_units(values)), values)
    torch.manual_seed(0)
    layer = nn.Linear(4, 3)
    x = torch.randn(5, 4)
    units = layer(x).detach()
    with deviations.inside(layer):
        assert torch.allclose(deviations.to_units(layer(x)), units, atol=1e-3)
    assert torch.allclose(layer(x), units, atol=1e-3)


def test_the_digest_of_items_knows_names_and_labels(shapes: Path) -> None:
    dls = make_dls(shapes)
    targets = read_targets(dls.train_ds, "classification")
    told = describe_items(dls.train_ds, targets)
    assert told == describe_items(make_dls(shapes).train_ds, targets)
    assert told != describe_items(dls.valid_ds, read_targets(dls.valid_ds, "classification"))
    assert told != describe_items(dls.train_ds, targets[::-1])
