"""Whatever bytes come, load() answers with a model or a DrivetrainError, and never with anything else."""

from __future__ import annotations

import io
import random
import re
from collections import Counter

import numpy as np
import pytest

from drivetrain.bundle.archive import parse_bundle
from drivetrain.bundle.arrays import write_arrays
from drivetrain.bundle.stored_zip import write_stored_zip
from drivetrain.errors import BundleRefused
from drivetrain.flows.train import TrainResult
from drivetrain.runtime.predictor import Predictor

from .forge import Parts, honest_arrays


def outcome(data: bytes) -> str:
    """The code of the refusal, or "loaded". Any other exception or warning goes through, and fails the test."""
    try:
        Predictor(parse_bundle(io.BytesIO(data)))
    except BundleRefused as exc:
        return exc.code
    return "loaded"


def mutate(data: bytes, rng: random.Random) -> bytes:
    """A few flips, cuts, insertions, copies or interesting bytes, anywhere."""
    out = bytearray(data)
    for _ in range(rng.choice([1, 1, 1, 2, 4])):
        at = rng.randrange(len(out) + 1)
        match rng.randrange(6):
            case 0:
                out[at : at + 1] = bytes([rng.randrange(256)])
            case 1:
                out = out[:at] or bytearray(data[:1])
            case 2:
                out[at:at] = rng.randbytes(rng.choice([1, 2, 16]))
            case 3:
                del out[at : at + rng.choice([1, 2, 16, 300])]
            case 4:
                start = rng.randrange(len(out) + 1)
                out[at:at] = out[start : start + rng.choice([4, 46, 400])]
            case _:
                out[at : at + 4] = rng.choice([b"\xff\xff\xff\xff", b"\0\0\0\0", b"\xff\xff\xff\x7f", b"\x80\0\0\0"])
    return bytes(out)


def test_a_real_bundle_in_pieces(trained: TrainResult) -> None:
    data = trained.bundle.read_bytes()
    rng = random.Random(1)
    seen = Counter(outcome(mutate(data, rng)) for _ in range(150))
    assert seen["loaded"] <= 5, seen  # a mutation may leave all as it was
    assert {"bundle_zip", "bundle_digest"} <= seen.keys(), seen


def test_a_tiny_bundle_in_pieces(tiny: Parts) -> None:
    data = tiny.archive()
    rng = random.Random(2)
    seen = Counter(outcome(mutate(data, rng)) for _ in range(2_000))
    assert sum(seen.values()) == 2_000
    assert {"bundle_zip", "bundle_digest", "bundle_size", "bundle_path"} <= seen.keys(), seen


@pytest.mark.parametrize("name", ["model.onnx", "reference.npz", "fixtures/expected.json", "fixtures/000.png"])
def test_a_member_in_pieces_with_honest_digests(name: str, tiny: Parts) -> None:
    """Behind the digests, the parsers themselves."""
    rng = random.Random(3)
    seen = Counter(outcome(tiny.changed({name: mutate(tiny.members[name], rng)}).archive()) for _ in range(500))
    assert len(seen) > 1, seen
    assert seen["loaded"] < 400, seen


def test_a_manifest_in_pieces(tiny: Parts) -> None:
    """Numbers and words of manifest.json put in each other's place."""
    text = tiny.manifest_bytes()
    values = sorted(set(re.findall(rb'(?<=: )(?:"[^"]*"|[0-9.e-]+|true|false|null|\[[^\[\]]*\]|\{[^{}]*\})', text)))
    odd = b'null true -1 0 1e300 1e-300 4097 "" [] {} [[]] {"op":[]} "0"'.split()
    places = list(re.finditer(b"|".join(re.escape(value) for value in values), text))
    rng = random.Random(4)
    seen: Counter[str] = Counter()
    for _ in range(1_500):
        found = rng.choice(places)
        changed = text[: found.start()] + rng.choice([*odd, *values]) + text[found.end() :]
        if rng.random() < 0.1:
            changed = mutate(changed, rng)
        seen[outcome(write_stored_zip({"manifest.json": changed, **tiny.members}))] += 1
    assert {"bundle_manifest", "bundle_schema", "bundle_digest", "bundle_fixtures"} <= seen.keys(), seen


def test_arrays_of_any_kind(tiny: Parts) -> None:
    rng = np.random.default_rng(5)
    seen: Counter[str] = Counter()
    for _ in range(300):
        arrays = honest_arrays()
        name = str(rng.choice(list(arrays)))
        shape = tuple(int(side) for side in rng.integers(0, 5, size=int(rng.integers(0, 4))))
        bits = rng.integers(0, 256, size=(*shape, 8), dtype=np.uint8)
        dtype = str(rng.choice(["<f8", "<i8"]))
        arrays[name] = bits.view(dtype).reshape(shape)
        if rng.random() < 0.5:
            with np.errstate(all="ignore"):
                arrays[name] = arrays[name].astype(str(rng.choice(["<f2", "<f4", "|u1", "|b1"])))
        seen[outcome(tiny.changed({"reference.npz": write_arrays(arrays)}).archive())] += 1
    assert seen["bundle_manifest"] > 200, seen
