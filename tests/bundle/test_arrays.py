from __future__ import annotations

import io
import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from drivetrain.bundle.arrays import read_arrays, write_arrays
from drivetrain.bundle.stored_zip import write_stored_zip
from drivetrain.errors import BundleRefused
from drivetrain.runtime.predictor import load

from .forge import Parts, honest_arrays


def npy(array: np.ndarray, **options: Any) -> bytes:
    out = io.BytesIO()
    np.lib.format.write_array(out, array, **options)
    return out.getvalue()


def npz(**members: bytes) -> bytes:
    return write_stored_zip({f"{name}.npy": data for name, data in members.items()})


def header(text: str, body: bytes = b"", *, version: bytes = b"\1\0") -> bytes:
    """An npy file with any text for a header, padded as numpy does it."""
    raw = text.encode("latin-1").ljust(118 - 1) + b"\n"
    return b"\x93NUMPY" + version + len(raw).to_bytes(2, "little") + raw + body


@pytest.mark.parametrize("dtype", ["<f2", "<f4", "<f8", "<i4", "<i8", "|u1", "|b1"])
@pytest.mark.parametrize("shape", [(), (3,), (2, 3), (2, 1, 3), (0, 5), (1, 2, 3, 4)], ids=str)
def test_round_trip(dtype: str, shape: tuple[int, ...]) -> None:
    array = np.arange(np.prod(shape, dtype=int)).reshape(shape).astype(dtype)
    found = read_arrays(write_arrays({"a": array, "b": array[::-1] if shape else array}))
    assert list(found) == ["a", "b"]
    expected = np.atleast_1d(array) if shape == () else array  # ascontiguousarray gives a number one dimension
    assert found["a"].dtype == expected.dtype
    assert found["a"].shape == expected.shape
    np.testing.assert_array_equal(found["a"], expected)


def test_numpy_itself_reads_it() -> None:
    with np.load(io.BytesIO(write_arrays(honest_arrays())), allow_pickle=False) as opened:
        np.testing.assert_array_equal(opened["ood_known"], honest_arrays()["ood_known"])


def test_equal_arrays_give_equal_bytes() -> None:
    arrays = honest_arrays()
    columns = {name: np.asfortranarray(array) for name, array in reversed(arrays.items())}
    assert write_arrays(arrays) == write_arrays(columns)


class Bomb:
    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (Path("owned"),)


def test_objects_are_refused_and_never_loaded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    hostile = npy(np.array([Bomb()], dtype=object), allow_pickle=True)
    assert b"owned" in hostile
    with pytest.raises(BundleRefused, match="got Python objects; want plain numbers") as caught:
        read_arrays(npz(ood_known=hostile))
    assert caught.value.code == "bundle_pickle"
    with pytest.raises(BundleRefused):  # a bare pickle where an array should be
        read_arrays(npz(ood_known=pickle.dumps(Bomb())))
    assert not Path("owned").exists()


PLAIN = "{'descr': '<f4', 'fortran_order': False, 'shape': (2, 3), }"
HOSTILE: dict[str, tuple[Mapping[str, bytes], str, str]] = {
    "objects": ({"a": header(PLAIN.replace("<f4", "|O"))}, "bundle_pickle", "Python objects"),
    "structured": (
        {"a": npy(np.zeros(2, dtype=[("x", "<f4"), ("y", "O")]), allow_pickle=True)},
        "bundle_member",
        "another header",
    ),
    "text": ({"a": npy(np.array(["ab"]))}, "bundle_member", "want row-major"),
    "complex": ({"a": npy(np.zeros(2, dtype="<c8"))}, "bundle_member", "want row-major"),
    "other byte order": ({"a": npy(np.zeros(2, dtype=">f4"))}, "bundle_member", "want row-major"),
    "column-major": ({"a": npy(np.zeros((2, 3), order="F"))}, "bundle_member", "want row-major"),
    "version 3": ({"a": npy(np.zeros(2), version=(3, 0))}, "bundle_member", "want a plain npy array, version 1.0"),
    "no array": ({"a": b"not an array"}, "bundle_member", "another header"),
    "empty": ({"a": b""}, "bundle_member", "another header"),
    "code in the header": ({"a": header("__import__('os').system('id')")}, "bundle_member", "another header"),
    "nested header": ({"a": header("(" * 100)}, "bundle_member", "another header"),
    "a number of old Python": ({"a": header(PLAIN.replace("(2, 3)", "(2L, 3L)"))}, "bundle_member", "another header"),
    "negative": ({"a": header(PLAIN.replace("(2, 3)", "(-2, -3)"), bytes(24))}, "bundle_member", "another header"),
    "many dimensions": (
        {"a": header(PLAIN.replace("(2, 3)", f"({'1, ' * 20}1)"), bytes(4))},
        "bundle_member",
        "another header",
    ),
    "huge shape": (
        {"a": header(PLAIN.replace("(2, 3)", "(9999999999, 9999999999)"))},
        "bundle_size",
        "shape (9999999999, 9999999999) in 0 bytes",
    ),
    "too little": ({"a": header(PLAIN, bytes(23))}, "bundle_size", "shape (2, 3) in 23 bytes; want a shape that fits"),
    "too much": ({"a": header(PLAIN, bytes(25))}, "bundle_size", "shape (2, 3) in 25 bytes"),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile(name: str, tiny: Parts, tmp_path: Path) -> None:
    members, code, text = HOSTILE[name]
    data = npz(**members)
    with pytest.raises(BundleRefused) as caught:
        read_arrays(data)
    assert (caught.value.code, text in caught.value.message) == (code, True), caught.value.message
    path = tmp_path / "hostile.dt"
    path.write_bytes(tiny.changed({"reference.npz": data}).archive())
    with pytest.raises(BundleRefused) as caught:
        load(path)
    assert caught.value.code == code


def test_another_member(tiny: Parts) -> None:
    with pytest.raises(BundleRefused, match=r"reference\.npz/evil\.pkl: got an unknown member") as caught:
        read_arrays(write_stored_zip({"evil.pkl": b""}))
    assert caught.value.code == "bundle_member"


def test_compressed() -> None:
    out = io.BytesIO()
    np.savez_compressed(out, a=np.zeros(1_000_000))
    with pytest.raises(BundleRefused, match="a compressed or locked member") as caught:
        read_arrays(out.getvalue())
    assert caught.value.code == "bundle_size"


def test_too_many() -> None:
    with pytest.raises(BundleRefused, match="got 65 members; want at most 64") as caught:
        read_arrays(write_arrays({f"a{i}": np.zeros(1) for i in range(65)}))
    assert caught.value.code == "bundle_size"


@pytest.mark.parametrize(
    ("name", "array", "text"),
    [
        ("ood_known", np.full((3, 3), np.nan, dtype=np.float16), "want finite floats"),
        ("ood_known", np.full((3, 3), np.inf), "want finite floats"),
        ("ood_known", np.full((3, 3), 1e300), "want rows at length 1"),
        ("ood_known", np.eye(4, dtype=np.float16), "want rows of 3 features"),
        ("ood_known", np.zeros((0, 3)), "with 1 <= k <= n"),
        ("ood_known", np.zeros(3), "with 1 <= k <= n"),
        ("ood_known", np.eye(3, dtype=np.int64), "want finite floats"),
        ("ood_calibration", np.array([0.5, 0.1]), "want scores in ascending order"),
        ("ood_calibration", np.zeros((2, 2)), "want scores in ascending order"),
        ("ood_calibration", np.array([0.1, np.nan]), "want finite floats"),
        ("ood_calibration", np.array([True]), "want finite floats"),
    ],
)
def test_numbers_that_do_not_fit(name: str, array: np.ndarray, text: str, tiny: Parts, tmp_path: Path) -> None:
    path = tmp_path / "off.dt"
    path.write_bytes(tiny.changed({"reference.npz": write_arrays({**honest_arrays(), name: array})}).archive())
    with pytest.raises(BundleRefused) as caught:
        load(path)
    assert (caught.value.code, caught.value.field) == ("bundle_manifest", f"reference.npz/{name}")
    assert text in caught.value.message


@pytest.mark.parametrize("name", ["ood_known", "ood_calibration"])
def test_an_array_missing(name: str, tiny: Parts, tmp_path: Path) -> None:
    arrays = {key: array for key, array in honest_arrays().items() if key != name}
    path = tmp_path / "missing.dt"
    path.write_bytes(tiny.changed({"reference.npz": write_arrays(arrays)}).archive())
    with pytest.raises(BundleRefused, match=f"reference.npz/{name}: got no such array") as caught:
        load(path)
    assert caught.value.code == "bundle_manifest"
