from __future__ import annotations

import numpy as np
import pytest

from drivetrain.data.targets import (
    clean_label,
    encode_targets,
    find_strata,
    name_outputs,
    split_labels,
    split_values,
)
from drivetrain.errors import InvalidInput
from drivetrain.task import Task


@pytest.mark.parametrize(
    ("text", "task", "clean"),
    [
        ("a;b", "classification", "a;b"),
        (" dog ; cat;dog;; ", "multilabel", "cat;dog"),
        (";", "multilabel", ""),
        ("", "multilabel", ""),
        ("ba\u0308r", "multilabel", "b\u00e4r"),
        ("1.50", "regression", "1.5"),
        ("+3", "regression", "3"),
        ("-0.0", "regression", "0"),
        ("1e3 ; .25", "regression", "1000;0.25"),
        ("0.1", "regression", "0.1"),
    ],
)
def test_clean_label(text: str, task: Task, clean: str) -> None:
    assert clean_label(text, task=task, where="x") == clean
    assert clean_label(clean, task=task, where="x") == clean


@pytest.mark.parametrize(
    "text", ["nan", "inf", "-Infinity", "1_000", "1,5", "12 cm", "1;;2", "", "0x10", "1e39", "\u0661"]
)
def test_what_is_no_number_is_named(text: str) -> None:
    with pytest.raises(InvalidInput, match=r"^labels\.csv line 7, value: got ") as caught:
        clean_label(text, task="regression", where="labels.csv line 7, value")
    assert "number" in caught.value.message


def test_at_most_a_hundred_values() -> None:
    with pytest.raises(InvalidInput, match="got 101 values; want at most 100"):
        clean_label(";".join(["1"] * 101), task="regression", where="x")


def test_parts_of_a_canonical_text() -> None:
    assert split_labels("a;b", task="classification") == ("a;b",)
    assert split_labels("a;b", task="multilabel") == ("a", "b")
    assert split_labels("", task="multilabel") == ()
    assert split_labels("1;2", task="regression") == ()
    assert split_values("1.5;-2") == (1.5, -2.0)


def test_names_of_outputs() -> None:
    assert name_outputs(["b", "a", "b"], task="classification") == ("a", "b")
    assert name_outputs(["b;c", "", "a"], task="multilabel") == ("a", "b", "c")
    assert name_outputs(["1", "2"], task="regression") == ("value",)
    assert name_outputs(["1;2"], task="regression") == ("value 1", "value 2")


def test_encode_targets() -> None:
    classes = encode_targets(["b", "a"], task="classification", classes=("a", "b"))
    assert (classes.dtype, classes.tolist()) == (np.int64, [1, 0])
    labels = encode_targets(["b;c", "", "a"], task="multilabel", classes=("c", "a", "b"))
    assert (labels.dtype, labels.tolist()) == (np.float32, [[1, 0, 1], [0, 0, 0], [0, 1, 0]])
    values = encode_targets(["1.5;2", "3;4"], task="regression", classes=("value 1", "value 2"))
    assert (values.dtype, values.tolist()) == (np.float32, [[1.5, 2], [3, 4]])
    assert encode_targets([], task="regression", classes=("value",)).shape == (0, 1)


def test_encode_targets_tells_what_does_not_fit() -> None:
    with pytest.raises(InvalidInput, match="got 'd'; want labels among a, b"):
        encode_targets(["a;d"], task="multilabel", classes=("a", "b"))
    with pytest.raises(InvalidInput, match="got 2 for a picture; want 1: value"):
        encode_targets(["1;2"], task="regression", classes=("value",))


def test_strata_of_labels_are_the_rarest() -> None:
    targets = encode_targets(["a", "a;b", "a;c", "a;b;c", "", "a;b"], task="multilabel", classes=("a", "b", "c"))
    assert find_strata(targets, task="multilabel").tolist() == [0, 1, 2, 2, 3, 1]


@pytest.mark.parametrize("n", [3, 10, 52, 400])
def test_strata_of_values_are_bins_of_as_many(n: int) -> None:
    values = np.random.default_rng(0).permutation(np.arange(n) ** 3).astype(np.float32)
    strata = find_strata(values[:, None], task="regression")
    sizes = np.bincount(strata)
    assert len(sizes) == min(10, max(1, n // 5))
    assert sizes.max() - sizes.min() <= 1
    for low in range(len(sizes) - 1):
        assert values[strata == low].max() < values[strata == low + 1].min()
    other = np.random.default_rng(1).permutation(n)
    np.testing.assert_array_equal(find_strata(values[other, None], task="regression"), strata[other])


def test_equal_values_share_a_bin() -> None:
    values = np.repeat([0.0, 1.0], [70, 30])[np.random.default_rng(0).permutation(100), None]
    strata = find_strata(values, task="regression")
    assert {len(np.unique(strata[values[:, 0] == one])) for one in (0.0, 1.0)} == {1}
    assert len(np.unique(strata)) == 2


def test_strata_of_classes_are_the_classes() -> None:
    labels = np.array([2, 0, 1])
    np.testing.assert_array_equal(find_strata(labels, task="classification"), labels)
