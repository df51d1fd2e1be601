"""What the Learner asks of a loader: one epoch by its number, from its middle, in shares."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from drivetrain.learn.data_loader import DataLoader
from drivetrain.learn.show import draw_batch

from .makers import make_dls


def same(a: Any, b: Any) -> bool:
    return len(a) == len(b) and all(
        torch.equal(one, other) for x, y in zip(a, b, strict=True) for one, other in zip(x, y, strict=True)
    )


def test_an_epoch_by_its_number(shapes: Path) -> None:
    train = make_dls(shapes).train
    zero, one = list(train), list(train)
    assert same(list(train.batches(0)), zero)
    assert same(list(train.batches(1)), one)
    assert not same(zero, one)
    assert train.epoch == 2


def test_from_its_middle_nothing_before_is_read(shapes: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    train = make_dls(shapes).train
    whole = list(train.batches(3))
    read: list[str] = []
    load = train.pictures.load
    monkeypatch.setattr(train.pictures, "load", lambda *a, **k: (read.append(k["name"]), load(*a, **k))[1])
    assert same(list(train.batches(3, skip=4)), whole[4:])
    assert len(read) == 11  # 27 less 4 batches of 4
    assert read[:4] == train.names_of(3, 4)
    assert list(train.batches(3, skip=9)) == []


def test_shares_are_disjoint_and_of_one_length_in_training(shapes: Path) -> None:
    dls = make_dls(shapes)
    names = [{name for number in range(4) for name in dls.train.names_of(0, number, share=(i, 2))} for i in range(2)]
    assert [len(one) for one in names] == [13, 13]
    assert not names[0] & names[1]
    assert dls.train.count_batches(shares=2) == 3
    assert len(list(dls.train.batches(0, share=(1, 2)))) == 3
    assert len(dls.train) == dls.train.count_batches() == 6
    held_out = [sum(len(batch[0]) for batch in dls.valid.batches(0, share=(i, 2))) for i in range(2)]
    assert held_out == [5, 4]


def test_what_is_left_out_moves_no_other_share(shapes: Path) -> None:
    def names(train: DataLoader) -> list[str]:
        return [name for number in range(4) for name in train.names_of(0, number, share=(1, 2))]

    train = make_dls(shapes).train
    before = names(train)
    other = train.names_of(0, 0, share=(0, 2))[0]
    train.left_out[[train.dataset.name(at) for at in range(27)].index(other)] = "broken"
    assert names(train) == before


def test_titles_are_cut_line_by_line() -> None:
    figure = draw_batch(torch.zeros(1, 2, 2, 3).numpy(), ["a" * 40 + "\nshort"])
    assert figure.axes[0].get_title() == "a" * 27 + "…\nshort"
