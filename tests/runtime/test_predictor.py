from __future__ import annotations

import io
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from drivetrain.bundle.archive import read_bundle
from drivetrain.errors import BundleRefused, InvalidInput, NotFound, UnreadablePicture
from drivetrain.flows.train import TrainResult
from drivetrain.imaging.decode import DecodeLimits
from drivetrain.imaging.style_measures import StyledPreprocess
from drivetrain.runtime.decision import open_policy
from drivetrain.runtime.prediction import Prediction
from drivetrain.runtime.predictor import Predictor, load


@pytest.fixture(scope="module")
def predictor(trained: TrainResult) -> Predictor:
    return load(trained.bundle)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Thirty noisy pictures of many sizes and kinds."""
    root = tmp_path_factory.mktemp("folder")
    rng = np.random.default_rng(3)
    files = []
    for number in range(30):
        height, width = rng.integers(20, 200, size=2)
        pixels = rng.integers(0, 256, size=(height, width, 3), dtype=np.uint8)
        image = Image.fromarray(pixels).resize((int(width), int(height)))
        file = root / f"{number:02}{('.png', '.jpg', '.webp')[number % 3]}"
        image.save(file)
        files.append(file)
    return files


def answers(predictor: Predictor, pictures: list[Any]) -> list[Prediction | UnreadablePicture]:
    return list(predictor.predict_many(pictures))


def test_it_knows_what_it_is(predictor: Predictor, trained: TrainResult) -> None:
    assert predictor.name == "shapes"
    assert predictor.classes == ("circle", "square", "stripes")
    assert predictor.version == trained.version == f"shapes@{trained.digest[:12]}"
    assert predictor.fixture_difference < 1e-5


def test_it_is_right(predictor: Predictor, picture_folder: Any) -> None:
    root = picture_folder(per_class=5, seed=77)
    files = sorted(root.rglob("*.png"))
    found = [answer.label for answer in answers(predictor, files) if isinstance(answer, Prediction)]
    assert found == [file.parent.name for file in files]


def test_every_kind_of_picture_gets_the_same_answer(predictor: Predictor, folder: list[Path]) -> None:
    file = folder[0]  # a PNG: its decoding does not depend on the size asked for
    with Image.open(file) as image:
        pixels = np.asarray(image)
        given = [file, str(file), file.read_bytes(), image.copy(), pixels, np.asfortranarray(pixels)]
        expected = predictor.predict(file)
        assert [predictor.predict(picture) for picture in given] == [expected] * 6
        assert predictor.predict(image) == expected  # opened and not yet read
    assert expected.version == predictor.version


def test_grey_and_turned_and_transparent(predictor: Predictor, folder: list[Path]) -> None:
    with Image.open(folder[0]) as image:
        grey = image.convert("L")
        exif = Image.Exif()
        exif[0x0112] = 6
        turned = io.BytesIO()
        image.transpose(Image.Transpose.ROTATE_90).save(turned, "PNG", exif=exif)
        assert predictor.predict(turned.getvalue()) == predictor.predict(folder[0])
        assert predictor.predict(image.convert("RGBA")) == predictor.predict(folder[0])
    assert predictor.predict(np.asarray(grey)) == predictor.predict(grey)


@pytest.mark.parametrize("threads", [1, 4])
def test_threads_change_no_bit(threads: int, predictor: Predictor, folder: list[Path], trained: TrainResult) -> None:
    one_by_one = [predictor.predict(file) for file in folder]
    many = answers(load(trained.bundle, threads=threads), folder * 3)
    assert many == one_by_one * 3


def test_a_bad_picture_in_the_middle(predictor: Predictor, folder: list[Path], tmp_path: Path) -> None:
    (tmp_path / "bad.jpg").write_bytes(b"\xff\xd8 cut")
    given = [folder[0], tmp_path / "bad.jpg", tmp_path / "gone.jpg", b"text", folder[1]]
    found = answers(predictor, given)
    assert [type(answer).__name__ for answer in found] == [
        "Prediction", "UnreadablePicture", "UnreadablePicture", "UnreadablePicture", "Prediction",
    ]  # fmt: skip
    errors = [answer for answer in found if isinstance(answer, UnreadablePicture)]
    assert [error.field for error in errors] == [str(tmp_path / "bad.jpg"), str(tmp_path / "gone.jpg"), "picture"]
    assert errors[1].reason == "there is no such file"
    assert found[0] == predictor.predict(folder[0])


def test_the_style_of_each_picture_is_decided_on(trained: TrainResult, folder: list[Path]) -> None:
    """Whatever kind of picture it came as, it is the style that training would have measured."""
    predictor = load(trained.bundle)
    styled = StyledPreprocess(predictor.preprocess)
    policy, seen = predictor.policy, []

    class Noting:
        def decide(self, *given: Any, style: Any = None) -> Any:
            seen.append(style)
            return policy.decide(*given)

    predictor.policy = Noting()  # type: ignore[assignment]
    with Image.open(folder[0]) as image:
        want = styled.from_image(image)[1]
        for picture in (folder[0], folder[0].read_bytes(), image.copy(), np.asarray(image)):
            predictor.predict(picture)
    for style in seen:  # the model's own, which is summed in another order
        np.testing.assert_allclose(style, want, atol=1e-4)
    assert len(seen) == 4
    logits, row, side = predictor.ask(folder[0])
    frozen, style = predictor.judged(row, side)
    answer = policy.decide(logits, frozen, predictor.classes, predictor.version, style=style)
    assert answer == load(trained.bundle).predict(folder[0])
    assert style is not None
    np.testing.assert_allclose(style, want, atol=1e-4)
    assert predictor.judged(row, None)[1] is None


def test_a_bundle_of_before_knows_no_styles(trained: TrainResult, predictor: Predictor, folder: list[Path]) -> None:
    bundle = read_bundle(trained.bundle)
    decision = {name: value for name, value in bundle.manifest.decision.items() if name != "style"}
    logits, row, side = predictor.ask(folder[0])
    frozen, style = predictor.judged(row, side)
    policy = open_policy("classification", decision, bundle.arrays, feature_count=len(frozen), output_count=3)
    answer = policy.decide(logits, frozen, predictor.classes, "", style=style)
    assert (answer.shift_p_value, answer.shifted_by) == (None, ())
    assert not {"shift_p_value", "shifted_by"} & answer.as_json().keys()
    assert isinstance(predictor.predict(folder[0]).shift_p_value, float)


def test_many_is_lazy(predictor: Predictor, folder: list[Path]) -> None:
    taken: list[Path] = []

    def source() -> Any:
        for file in folder:
            taken.append(file)
            yield file

    results = predictor.predict_many(source())
    assert taken == []
    assert isinstance(next(iter(results)), Prediction)
    assert len(taken) < len(folder)


def test_no_such_file(predictor: Predictor) -> None:
    for path in ("gone.jpg", Path("gone.jpg"), "nul\0.jpg"):
        with pytest.raises(NotFound, match="want a picture file"):
            predictor.predict(path)


def test_a_folder_or_a_pipe(predictor: Predictor, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.png")
    for path in (tmp_path, tmp_path / "pipe.png"):
        with pytest.raises(UnreadablePicture, match="a folder, pipe or device, not a file"):
            predictor.predict(path)


@pytest.mark.parametrize("given", [None, 7, ["a.jpg"], object()])
def test_what_is_no_picture(given: Any, predictor: Predictor) -> None:
    with pytest.raises(InvalidInput, match="want a path, bytes, a PIL image or a numpy array"):
        predictor.predict(given)


@pytest.mark.parametrize("array", [np.zeros((4, 4, 3)), np.zeros((4, 4, 4), np.uint8), np.zeros((0, 4, 3), np.uint8)])
def test_arrays_that_are_no_picture(array: np.ndarray, predictor: Predictor) -> None:
    with pytest.raises(InvalidInput, match="picture array"):
        predictor.predict(array)


def test_an_error_names_the_picture_as_it_was_asked_to(predictor: Predictor, folder: list[Path]) -> None:
    with pytest.raises(UnreadablePicture) as caught:
        predictor.predict(b"nothing", name="upload 3")
    assert caught.value.field == "upload 3"


def test_an_opened_picture_that_turns_out_damaged(predictor: Predictor, folder: list[Path]) -> None:
    data = folder[1].read_bytes()
    with Image.open(io.BytesIO(data[: len(data) // 2])) as image, pytest.raises(UnreadablePicture):
        predictor.predict(image)


@pytest.mark.parametrize(
    ("limits", "text"),
    [(DecodeLimits(max_bytes=100), "at most 100 are read"), (DecodeLimits(max_pixels=100), "at most 100 are decoded")],
)
def test_limits(limits: DecodeLimits, text: str, trained: TrainResult, folder: list[Path]) -> None:
    strict = load(trained.bundle, limits=limits)
    for picture in (folder[0], folder[0].read_bytes()):
        with pytest.raises(UnreadablePicture, match=text):
            strict.predict(picture)


def test_the_weights_are_not_held_twice(trained: TrainResult) -> None:
    import sys

    bundle = read_bundle(trained.bundle)
    model = bundle.members["model.onnx"]
    before = sys.getrefcount(model)
    Predictor(bundle)
    assert sys.getrefcount(model) == before


def test_load_takes_text_or_path(trained: TrainResult) -> None:
    assert load(str(trained.bundle)).version == load(trained.bundle).version


def test_load_of_what_is_no_model(folder: list[Path]) -> None:
    with pytest.raises(BundleRefused) as caught:
        load(folder[1])
    assert caught.value.code == "bundle_zip"
