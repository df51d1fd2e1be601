"""Blocks: what a label becomes, whose labels make the vocabulary, and what is said about a label that has no number."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from drivetrain.errors import InvalidConfig, InvalidInput
from drivetrain.learn.blocks import (
    Categorize,
    CategoryBlock,
    Encoder,
    ImageBlock,
    MultiCategorize,
    MultiCategoryBlock,
    OpenPicture,
    RegressionBlock,
    ToFloat,
    TransformBlock,
    as_list,
    name_of,
)


def named(*labels: Any) -> list[tuple[str, Any]]:
    return [(f"label of {at}.jpg", label) for at, label in enumerate(labels)]


def encoder_of(block: TransformBlock) -> Any:
    return block.type_tfms[-1]


def test_categories_are_sorted_and_numbered() -> None:
    fitted = encoder_of(CategoryBlock()).fit(named("dog", "cat", "dog"))
    assert (fitted.vocab, fitted.c) == (("cat", "dog"), 2)
    number = fitted("dog")
    assert (number, number.dtype, fitted.decode(number)) == (1, np.int64, "dog")


def test_categories_may_keep_their_order() -> None:
    assert encoder_of(CategoryBlock(sort=False)).fit(named("dog", "cat", "dog")).vocab == ("dog", "cat")


def test_a_vocabulary_that_is_given_is_kept_as_it_is() -> None:
    fitted = encoder_of(CategoryBlock(vocab=["dog", "cat", "ant"])).fit(named("cat"))
    assert fitted.vocab == ("dog", "cat", "ant")
    assert fitted("cat") == 1


def test_an_unknown_label_is_named_with_its_item() -> None:
    fitted = encoder_of(CategoryBlock()).fit(named("dog", "cat"))
    with pytest.raises(
        InvalidInput, match=r"label of x.jpg: got the label 'cow', which no training item has; want one of cat, dog"
    ):
        fitted("cow", where="label of x.jpg")


def test_many_labels_are_not_all_listed() -> None:
    fitted = encoder_of(CategoryBlock()).fit(named(*"abcdefghij"))
    with pytest.raises(InvalidInput, match=r"want one of a, b, c, d, e, f, g, h, \.\.\.\."):
        fitted("z")


@pytest.mark.parametrize("vocab", [None, ["cat", "dog"], ["#na#", "cat", "dog"]])
def test_add_na_takes_in_what_is_unknown(vocab: list[str] | None) -> None:
    fitted = encoder_of(CategoryBlock(vocab=vocab, add_na=True)).fit(named("dog", "cat"))
    assert fitted.vocab == ("#na#", "cat", "dog")
    assert (fitted("cow"), fitted("cat")) == (0, 1)


@pytest.mark.parametrize("label", [None, float("nan"), np.float64("nan")])
def test_no_label(label: object) -> None:
    with pytest.raises(InvalidInput, match=r"label of 0.jpg: got no label; want a label"):
        Categorize().fit(named(label))


def test_a_list_of_labels_is_for_another_block() -> None:
    with pytest.raises(InvalidInput, match=r"got a list: \['cat'\].*take MultiCategoryBlock"):
        Categorize().fit(named(["cat"]))


def test_labels_of_numpy_and_of_python_are_one() -> None:
    fitted = Categorize().fit(named(np.int64(3), 1, np.int64(1)))
    assert fitted.vocab == (1, 3)
    assert fitted(np.int64(3)) == 1


def test_labels_of_two_types_have_no_order() -> None:
    with pytest.raises(InvalidInput, match=r"labels: got labels of types int, str; want labels of one type"):
        Categorize().fit(named("cat", 1))
    assert Categorize(sort=False).fit(named("cat", 1)).vocab == ("cat", 1)


def test_no_labels_at_all() -> None:
    with pytest.raises(InvalidInput, match=r"got no label on any training item"):
        MultiCategorize().fit(named([], []))


@pytest.mark.parametrize("vocab", ["abc", [], ["a", "a"]])
def test_a_vocabulary_names_each_label_once(vocab: Any) -> None:
    for block in (CategoryBlock, MultiCategoryBlock):
        with pytest.raises(InvalidConfig, match=r"vocab: got .*; want a list of labels, each once"):
            block(vocab=vocab)


def test_several_labels_are_zeros_and_ones() -> None:
    fitted = encoder_of(MultiCategoryBlock()).fit(named(["sun", "sea"], [], ["fog"]))
    assert (fitted.vocab, fitted.c) == (("fog", "sea", "sun"), 3)
    row = fitted(["sun", "fog"])
    assert row.dtype == np.float32
    assert row.tolist() == [1, 0, 1]
    assert fitted([]).tolist() == [0, 0, 0]
    assert fitted.decode(row) == "fog;sun"


def test_several_labels_with_a_vocabulary_and_na() -> None:
    fitted = encoder_of(MultiCategoryBlock(vocab=["b", "a"], add_na=True)).fit(named(["a"]))
    assert fitted.vocab == ("#na#", "b", "a")
    assert fitted(["zzz", "a"]).tolist() == [1, 0, 1]


@pytest.mark.parametrize("given", ["sun sea", 3])
def test_several_labels_come_as_a_list(given: object) -> None:
    with pytest.raises(InvalidInput, match=r"want a list of labels. Of a text, make a list: ColReader"):
        MultiCategorize().fit(named(given))


def test_zeros_and_ones_may_be_given() -> None:
    fitted = encoder_of(MultiCategoryBlock(encoded=True, vocab=["sun", "sea"])).fit(named([1, 0]))
    assert fitted([0, 1]).tolist() == [0, 1]
    assert fitted([0, 1]).dtype == np.float32
    for wrong in ([1], [1, 2], [[1, 0]]):
        with pytest.raises(InvalidInput, match=r"want 2 zeros and ones, one for each of vocab"):
            fitted(wrong)
    with pytest.raises(InvalidConfig, match=r"got no vocab; want vocab, the name of each column"):
        MultiCategoryBlock(encoded=True)


def test_numbers() -> None:
    fitted = encoder_of(RegressionBlock()).fit(named(1.5, 2))
    number = fitted("2.5")  # all that a CSV holds is text
    assert (number.dtype, number.shape, float(number)) == (np.float32, (), 2.5)
    assert (fitted.c, fitted.vocab, fitted.decode(2.5)) == (1, None, "2.5")


def test_several_numbers_are_counted_on_the_first() -> None:
    fitted = encoder_of(RegressionBlock()).fit(named([1, 2, 3]))
    assert fitted.c == 3
    assert fitted.decode(fitted([1, 2, 3.25])) == "1, 2, 3.25"
    with pytest.raises(InvalidInput, match=r"label of x: got 2 numbers; want 3, as RegressionBlock says"):
        fitted([1, 2], where="label of x")


def test_n_out_says_how_many_numbers() -> None:
    block = RegressionBlock(n_out=2)
    assert encoder_of(block).fit(named([1, 2])).c == 2
    with pytest.raises(InvalidInput, match=r"got 3 numbers; want 2"):
        encoder_of(block)([1, 2, 3])


@pytest.mark.parametrize("label", ["tall", None, float("inf"), float("nan"), [], [[1]]])
def test_no_number(label: object) -> None:
    with pytest.raises(InvalidInput, match=r"label of x: got .*; want a finite number, or a list of them"):
        ToFloat()(label, where="label of x")


@pytest.mark.parametrize("n_out", [0, -1, True])
def test_n_out_is_a_count(n_out: int) -> None:
    with pytest.raises(InvalidConfig, match=r"RegressionBlock\(n_out\)"):
        RegressionBlock(n_out)


def test_encoders_are_known_by_their_shape() -> None:
    for encoder in (Categorize(), MultiCategorize(), ToFloat()):
        assert isinstance(encoder, Encoder)
    assert not isinstance(str.upper, Encoder)


def test_fitting_leaves_the_encoder_as_it_was() -> None:
    for encoder, label in ((Categorize(), "a"), (MultiCategorize(), ["a"]), (ToFloat(), [1, 2])):
        before = repr(encoder)
        assert encoder.fit(named(label)) != encoder
        assert repr(encoder) == before


def test_blocks_are_told_by_name() -> None:
    assert repr(ImageBlock()) == "ImageBlock"
    assert repr(TransformBlock([str.upper, lambda x: x])) == "TransformBlock(upper, a lambda)"
    with pytest.raises(InvalidConfig, match=r"TransformBlock\(type_tfms\): got 3; want functions"):
        TransformBlock([3])  # type: ignore[list-item]


def test_a_picture_is_left_closed() -> None:
    assert OpenPicture()(Path("x.jpg")) == Path("x.jpg")


def test_lists_are_flattened() -> None:
    assert as_list(None) == []
    assert as_list(3) == [3]
    assert as_list([1, [2, (3, None)]]) == [1, 2, 3]


def test_names_of_functions() -> None:
    from functools import partial

    assert name_of(partial(sorted, reverse=True)) == "partial(sorted)"
    assert name_of(ToFloat()) == "ToFloat"
