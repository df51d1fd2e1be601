"""Exact and near copies, told apart and told together."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from drivetrain.arrays import FloatArray
from drivetrain.errors import InvalidInput
from drivetrain.imaging.fingerprint import FINGERPRINT_LENGTH, fingerprint
from drivetrain.inspect.duplicates import CopyPair, find_duplicates


def picture(seed: int) -> FloatArray:
    """Blocks of noise: rich in detail, and like no other seed's."""
    coarse = np.random.default_rng(seed).random((3, 14, 14), dtype=np.float32)
    return coarse.repeat(8, axis=1).repeat(8, axis=2)


def table(pictures: Sequence[FloatArray]) -> FloatArray:
    return np.stack([fingerprint(pixels) for pixels in pictures])


def digests(names: str) -> list[bytes]:
    return [name.encode() for name in names]


def test_copies_are_grouped_and_the_same_file_is_told_apart() -> None:
    grainy = picture(0) + 0.02 * np.random.default_rng(9).standard_normal((3, 112, 112)).astype(np.float32)
    rows = table(
        [picture(1), picture(0), picture(2), picture(1), picture(2)[:, :, ::-1], grainy, picture(3), picture(1)]
    )
    found = find_duplicates(digests("abcadefx"), rows, None)
    assert found.exact == ((0, 3),)
    assert found.near == ((0, 3, 7), (1, 5), (2, 4))  # 7 shows the picture of 0 and 3 in another file
    assert found.groups == found.near
    assert found.n_copies == 7
    assert found.clusters.tolist() == [0, 1, 2, 0, 2, 1, 3, 0]
    assert {(pair.first, pair.second) for pair in found.pairs} == {(0, 7), (3, 7), (2, 4), (1, 5)}
    assert found.pairs[-1].similarity == min(pair.similarity for pair in found.pairs)
    assert found.pairs[-1] == CopyPair(first=1, second=5, similarity=found.pairs[-1].similarity)
    assert 0.91 < found.pairs[-1].similarity < 1


def test_the_same_file_is_a_copy_even_if_it_is_flat() -> None:
    found = find_duplicates(digests("abca"), np.zeros((4, FINGERPRINT_LENGTH), dtype=np.float32), None)
    assert found.exact == ((0, 3),)
    assert (found.near, found.pairs) == ((), ())
    assert found.groups == ((0, 3),)
    assert found.clusters.tolist() == [0, 1, 2, 0]


def test_features_are_heeded() -> None:
    rows = table([picture(0), picture(0) + 0.36 * picture(5), picture(1)])  # the second shines through: 0.94 alike
    assert find_duplicates(digests("abc"), rows, None).near == ((0, 1),)
    features = np.array([[1, 0], [-1, 0.1], [0, 1]], dtype=np.float32)
    assert find_duplicates(digests("abc"), rows, features).near == ()
    features[1] = [1, 0.1]
    assert find_duplicates(digests("abc"), rows, features).near == ((0, 1),)


def test_no_pictures() -> None:
    found = find_duplicates([], np.empty((0, FINGERPRINT_LENGTH), dtype=np.float32), None)
    assert (found.exact, found.near, found.pairs, found.n_copies) == ((), (), (), 0)


@pytest.mark.parametrize(
    ("features", "got"),
    [(None, "2 digests, 3 fingerprints"), (np.zeros((2, 4)), "2 digests, 3 fingerprints, 2 features")],
)
def test_tables_must_be_of_one_length(features: FloatArray | None, got: str) -> None:
    with pytest.raises(InvalidInput, match=f"digests: got {got}; want one of each for every picture"):
        find_duplicates(digests("ab"), np.zeros((3, FINGERPRINT_LENGTH), dtype=np.float32), features)
