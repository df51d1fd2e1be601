"""`--corrupt`: the same pictures made worse."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

from drivetrain.data.items import read_items
from drivetrain.errors import InvalidConfig
from drivetrain.flows.evaluate import EvaluateConfig, EvaluateResult, evaluate
from drivetrain.flows.evaluate_corrupted import CONDITIONS, choose_sample, evaluate_corrupted, open_small
from drivetrain.imaging.corrupt import CORRUPTIONS, corrupt
from drivetrain.imaging.decode import DecodeLimits
from drivetrain.progress import SilentProgress
from drivetrain.runtime.predictor import Predictor

from .conftest import plain


class Told:
    """Keeps what was said and how far the work went."""

    def __init__(self) -> None:
        self.said: list[str] = []
        self.steps: dict[str, int] = {}

    @contextmanager
    def task(self, name: str, total: int) -> Iterator[Callable[[int], None]]:
        self.steps[name] = 0

        def advance(steps: int) -> None:
            assert self.said or name == "Predicting", "said before it begins"
            self.steps[name] += steps

        yield advance
        assert self.steps[name] == total

    def say(self, message: str) -> None:
        self.said.append(message)


def ask(model: Predictor, data: Path, progress: Told | None = None, **options: int) -> EvaluateResult:
    config = EvaluateConfig(corrupt=True, **options)
    return evaluate(model, data, progress=progress or SilentProgress(), config=config)


@pytest.fixture(scope="module")
def asked(model: Predictor, data: Path) -> tuple[EvaluateResult, Told]:
    progress = Told()
    return ask(model, data, progress, sample=9), progress


def test_every_kind_is_tried_at_every_strength(asked: tuple[EvaluateResult, Told]) -> None:
    told = asked[0].corruptions
    assert told is not None
    assert [(row.kind, row.strength) for row in told.conditions] == [*CONDITIONS]
    assert len(told.conditions) == 1 + 5 * len(CORRUPTIONS) == 46
    assert {row.n for row in told.conditions} == {9} == {told.n}
    assert [row.strength for row in told.of_kind("blur")] == [0, 1, 2, 3, 4, 5]
    shown = plain(asked[0].as_json())["corruptions"]
    assert shown["n"] == 9
    assert shown["conditions"][0]["accuracy"]["hits"] == told.clean.accuracy.hits


def test_the_counts_are_those_of_the_predictions(
    asked: tuple[EvaluateResult, Told], model: Predictor, data: Path
) -> None:
    told = asked[0].corruptions
    assert told is not None
    labels = {item.path: item.label for item, _ in asked[0].predictions}
    answers = []
    for path in told.sample:
        file = (data / path).read_bytes()
        image = open_small(file, name=path, limits=DecodeLimits(), side=256)
        answers.append((path, model.predict(corrupt(image, "night", 4, digest=hashlib.sha256(file).digest()))))
    row = told.of_kind("night")[4]
    wrong = [answer.label != labels[path] for path, answer in answers]
    assert row.accuracy.hits == 9 - sum(wrong)
    assert row.deferred.hits == sum(answer.decision == "defer" for _, answer in answers)
    assert row.flagged.hits == sum(bool({"unknown", "shifted"} & {*answer.reasons}) for _, answer in answers)
    alone = [answer.decision == "accept" for _, answer in answers]
    assert row.silent.hits == sum(w and a for w, a in zip(wrong, alone, strict=True))


def test_what_it_will_take_is_said_first(asked: tuple[EvaluateResult, Told]) -> None:
    progress = asked[1]
    assert progress.said[0].startswith("Making 9 pictures worse in 9 ways at 5 strengths: 414 predictions, ")
    assert progress.said[0].endswith(("less than a minute.", " minute.", " minutes."))
    assert progress.steps["Predicting worse pictures"] == 414


def test_the_sample_is_of_all_classes_and_follows_the_seed(data: Path) -> None:
    items = read_items(data)
    chosen = choose_sample(items, items.items, size=18, seed=0)
    shares = {name: count / len(items) for name, count in items.count_labels().items()}
    for name, share in shares.items():
        assert abs(sum(item.label == name for item in chosen) - 18 * share) <= 1.5
    assert (
        choose_sample(items, items.items, size=18, seed=0)
        == chosen
        != choose_sample(items, items.items, size=18, seed=1)
    )
    assert choose_sample(items, items.items, size=99, seed=0) == [*items]
    assert [item.path for item in chosen] == sorted(item.path for item in chosen)


def test_sample_and_seed_reach_the_work(model: Predictor, data: Path) -> None:
    few, others = (ask(model, data, sample=2, seed=seed).corruptions for seed in (0, 3))
    assert few is not None
    assert others is not None
    assert (few.n, few.seed, others.seed) == (2, 0, 3)
    assert few.sample != others.sample


def test_a_picture_that_is_gone_is_left_out(
    model: Predictor, picture_folder: Callable[..., Path], tmp_path: Path
) -> None:
    root = picture_folder(per_class=1, root=tmp_path / "data")
    items = read_items(root)
    (root / items.items[1].path).unlink()
    told = evaluate_corrupted(model, items, items.items, seed=0, progress=SilentProgress())
    assert (told.n, told.sample) == (2, (items.items[0].path, items.items[2].path))


def test_large_pictures_are_made_small_first(picture_folder: Callable[..., Path]) -> None:
    root = picture_folder(("circle",), per_class=1, size=(900, 600), suffix=".jpg")
    data = next(root.rglob("*.jpg")).read_bytes()
    image = open_small(data, name="x", limits=DecodeLimits(), side=200)
    assert image.size == (300, 200)
    assert open_small(data, name="x", limits=DecodeLimits(), side=2_000).size == (900, 600)
    assert np.asarray(image).std() > 20


@pytest.mark.parametrize(("options", "told"), [({"sample": 0}, "--sample: got 0"), ({"seed": -1}, "--seed: got -1")])
def test_options_are_checked(options: dict[str, int], told: str) -> None:
    with pytest.raises(InvalidConfig, match=told):
        EvaluateConfig(corrupt=True, **options)
