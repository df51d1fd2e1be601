from __future__ import annotations

import io
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from PIL import Image

from drivetrain.arrays import FloatArray
from drivetrain.bundle.fixtures import make_synthetic_pictures, pack, unpack
from drivetrain.flows.fixtures import FixtureChoice, FixtureSource, choose_fixtures, perturb_preprocess
from drivetrain.imaging.decode import DecodeLimits
from drivetrain.imaging.preprocess import Fit, Preprocess, declare_preprocess
from drivetrain.trust.calibration import softmax

SIDE = 16
WEIGHT = np.random.default_rng(0).normal(0, 0.05, (3, 3 * SIDE * SIDE)).astype(np.float32)


def ops(method: Fit = "crop") -> list[dict[str, Any]]:
    return declare_preprocess(SIDE, method=method, mean=[0.5] * 3, std=[0.5] * 3)


def answer(pixels: FloatArray) -> FloatArray:
    """A network of one layer: every pixel counts."""
    return softmax(WEIGHT @ pixels.reshape(-1))


def sure_answer(pixels: FloatArray) -> FloatArray:
    """The same network, its probabilities at 1.000000 and 0.000000."""
    return softmax(WEIGHT @ pixels.reshape(-1), temperature=0.01)


def choose(
    candidates: Sequence[Image.Image] = (),
    *,
    source: FixtureSource = "validation",
    given: Any = answer,
    method: Fit = "crop",
    seed: int = 0,
) -> FixtureChoice:
    return choose_fixtures(
        candidates, source=source, preprocess=Preprocess(ops(method)), answer=given, tolerance=1e-3, seed=seed
    )


def pictures(count: int = 6) -> list[Image.Image]:
    return make_synthetic_pictures(count, side=100, seed=9)


@pytest.mark.parametrize("method", ["crop", "pad", "squish"])
@pytest.mark.parametrize("source", ["validation", "synthetic"])
@pytest.mark.parametrize("given", [answer, sure_answer])
def test_every_fault_is_noticed(method: Fit, source: FixtureSource, given: Any) -> None:
    """Symptom before: the fixtures of a sure model noticed none, since 1.0000 stays 1.0000 whatever is done."""
    assert choose(pictures(), source=source, given=given, method=method).unnoticed == ()


def test_a_fault_is_tried_until_a_fixture_notices() -> None:
    """Each try is a run of the network: at most the two that are turned otherwise, and else the first."""
    calls = 0

    def counting(pixels: FloatArray) -> FloatArray:
        nonlocal calls
        calls += 1
        return answer(pixels)

    choice = choose(pictures(), given=counting)
    made, own = 12, len(choice.fixtures)
    faults = len(perturb_preprocess(ops()))
    assert choice.unnoticed == ()
    assert faults <= calls - made - own < faults * own // 2


def test_faults_that_cannot_show_are_named() -> None:
    choice = choose(pictures(), given=lambda pixels: np.array([0.5, 0.3, 0.2]))
    assert choice.unnoticed == tuple(perturb_preprocess(ops()))


def test_a_fault_noticed_by_a_hair_is_not_relied_upon() -> None:
    def barely(pixels: FloatArray) -> FloatArray:
        """Off by 1.5 times the tolerance at the most, whatever is done to the picture."""
        p = 0.5 + 0.00075 * np.tanh(float(pixels.mean()) * 1e6 % 3)
        return np.array([p, 1 - p])

    assert set(choose(pictures(), given=barely).unnoticed) == set(perturb_preprocess(ops()))


def test_validation_pictures_come_first_and_a_few_suffice() -> None:
    choice = choose(pictures(8))
    assert [fixture.name for fixture in choice.fixtures] == ["000.png", "001.png", "002.png", "003.png"]
    made = choose(source="synthetic")
    held_out = {fixture.picture for fixture in choice.fixtures[:2]}
    assert not held_out & {fixture.picture for fixture in made.fixtures}
    assert {fixture.picture for fixture in choice.fixtures[2:]} <= {f.picture for f in choose(pictures(2)).fixtures}


@pytest.mark.parametrize("count", [0, 1])
def test_few_or_no_held_out_pictures(count: int) -> None:
    choice = choose(pictures(count))
    assert len(choice.fixtures) >= 3
    assert choice.unnoticed == ()


def test_no_picture_of_the_data_leaks_into_synthetic_fixtures() -> None:
    with_data, without = choose(pictures(), source="synthetic"), choose(source="synthetic")
    assert pack(with_data.fixtures) == pack(without.fixtures)


def test_the_same_seed_gives_the_same_fixtures() -> None:
    assert pack(choose(seed=1).fixtures) == pack(choose(seed=1).fixtures)
    assert pack(choose(seed=1).fixtures) != pack(choose(seed=2).fixtures)


def test_one_fixture_proves_the_exif_turn() -> None:
    for source in ("validation", "synthetic"):
        turned = [
            fixture
            for fixture in choose(pictures(), source=source).fixtures
            if dict(Image.open(io.BytesIO(fixture.picture)).getexif()) == {0x0112: 6}
        ]
        assert len(turned) == 1


def test_the_answers_are_those_of_the_path_that_serves() -> None:
    preprocess = Preprocess(ops())
    for fixture in unpack(pack(choose(pictures()).fixtures), class_count=3):
        pixels = preprocess.from_bytes(fixture.picture, name="x", limits=DecodeLimits())
        np.testing.assert_array_equal(answer(pixels[np.newaxis]), fixture.answer)


@pytest.mark.parametrize(
    ("method", "left_out", "added"),
    [
        ("crop", set(), set()),
        ("pad", {"resized to 256 / 224 first"}, {"padded otherwise"}),
        ("squish", {"resized to 256 / 224 first", "squished"}, set()),
    ],
)
def test_perturb_preprocess(method: Fit, left_out: set[str], added: set[str]) -> None:
    given = ops(method)
    changes = perturb_preprocess(given)
    assert changes.keys() == perturb_preprocess(ops()).keys() - left_out | added
    assert len(perturb_preprocess(ops())) == 7
    for changed in changes.values():
        assert changed != given
        assert Preprocess(changed).size == SIDE  # runs, and gives what the network takes
    assert given == ops(method)  # left as it was


@pytest.mark.parametrize(
    ("mode", "other"), [("constant", "reflection"), ("border", "constant"), ("reflection", "constant")]
)
def test_another_padding_is_a_fault(mode: str, other: str) -> None:
    given = [{**op, "mode": mode} if op["op"] == "pad" else op for op in ops("pad")]
    changed = perturb_preprocess(given)["padded otherwise"]
    assert [op["mode"] for op in changed if op["op"] == "pad"] == [other]
