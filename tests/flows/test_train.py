from __future__ import annotations

import html
import io
import json
import os
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from drivetrain.bundle.archive import Bundle, read_bundle
from drivetrain.errors import DrivetrainError, InvalidConfig, InvalidInput, NotFound, Unavailable
from drivetrain.flows.train import TrainConfig, TrainResult
from drivetrain.runtime.predictor import load

Train = Callable[..., TrainResult]
PictureFolder = Callable[..., Path]


@pytest.fixture(scope="module")
def shapes(picture_folder: PictureFolder) -> Path:
    """24 pictures of two classes; read it, copy it, never change it."""
    return picture_folder(("circle", "square"), per_class=12)


def content(result: TrainResult) -> tuple[str, dict[str, bytes]]:
    bundle = read_bundle(result.bundle)
    return bundle.manifest.digest, dict(bundle.members)


def test_the_same_seed_gives_the_same_model_bit_for_bit(
    shapes: Path, train_small: Train, cold_cache: Path, tmp_path: Path
) -> None:
    cold = train_small(shapes, cache_dir=cold_cache)
    want = content(cold)
    assert cold.digest == want[0]
    warm = train_small(shapes, cache_dir=cold_cache)
    assert (cold.n_computed, warm.n_computed) == (24, 0)
    assert content(warm) == want
    copied = shutil.copytree(shapes, tmp_path / "moved" / "elsewhere")
    assert content(train_small(copied, cache_dir=cold_cache)) == want
    other = train_small(shapes, cache_dir=cold_cache, seed=43)
    assert other.digest != cold.digest
    lineages = [read_bundle(cold.bundle).manifest.lineage, read_bundle(other.bundle).manifest.lineage]
    assert lineages[1]["seed"] == 43
    del other
    again = train_small(shapes, cache_dir=cold_cache, seed=42)
    assert again.digest == cold.digest


def first(bundle: Bundle, op: str) -> dict[str, Any]:
    return next(dict(step) for step in bundle.manifest.preprocess if step["op"] == op)


def fixture_sizes(bundle: Bundle) -> set[frozenset[int]]:
    pictures = [data for name, data in bundle.members.items() if name.endswith(".png")]
    return {frozenset(Image.open(io.BytesIO(data)).size) for data in pictures}


@pytest.mark.parametrize(
    ("options", "see", "want", "default"),
    [
        ({"resize": "pad"}, lambda b: "pad" in [op["op"] for op in b.manifest.preprocess], True, False),
        ({"resize": "squish"}, lambda b: first(b, "resize")["mode"], "squish", "crop"),
        ({"valid_share": 0.5}, lambda b: b.manifest.training["n_valid"], 12, 4),
        ({"seed": 7}, lambda b: b.manifest.lineage["seed"], 7, 42),
        ({"max_error": 0.02}, lambda b: b.manifest.decision["promise"]["n_needed"], 149, 59),
        ({"fixtures": "synthetic"}, lambda b: frozenset({64, 48}) in fixture_sizes(b), False, True),
        ({"backbone": "efficientnet_lite0"}, lambda b: b.manifest.lineage["backbone"], "efficientnet_lite0", None),
        ({"method": "head"}, lambda b: b.manifest.training["method"], "head", None),
    ],
    ids=lambda value: "-".join(map(str, value.items())) if isinstance(value, dict) else None,
)
def test_every_option_is_heeded(
    options: dict[str, Any],
    see: Callable[[Bundle], object],
    want: object,
    default: object,
    shapes: Path,
    train_small: Train,
) -> None:
    bundle = read_bundle(train_small(shapes, **options).bundle)
    assert see(bundle) == want
    assert first(bundle, "resize")["size"] in (96, [96, 96])  # the size asked for, not the backbone's own 224
    if default is not None:
        assert see(read_bundle(train_small(shapes).bundle)) == default


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"method": "magic"}, "--method: got magic; want one of auto, head, top, full."),
        ({"resize": "stretch"}, "--resize: got stretch; want one of crop, pad, squish."),
        ({"fixtures": "none"}, "--fixtures: got none; want one of validation, synthetic."),
        ({"out": Path("bears.zip")}, "-o: got bears.zip; want a file NAME.dt. Example: -o bears.dt"),
        ({"out": Path(".dt")}, "-o: got .dt; want a file NAME.dt. Example: -o bears.dt"),
        ({"valid_share": 1.0}, "--valid: got 1.0; want a share between 0 and 1, such as 0.2."),
        ({"seed": -1}, "--seed: got -1; want a whole number, at least 0."),
        ({"max_error": 0.0}, "--max-error: got 0.0; want a share from 0.000001 to below 1, such as 0.05."),
        ({"max_error": float("nan")}, "--max-error: got nan; want a share from 0.000001 to below 1, such as 0.05."),
    ],
)
def test_options_are_checked_before_any_work(options: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidConfig) as caught:
        TrainConfig(**{"data": Path("nowhere"), "out": Path("m.dt"), **options})
    assert caught.value.message == message


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"size": 100}, "size: got 100; want a multiple of 32 from 96 to 512"),
        ({"backbone": "resnet9000"}, "backbone: got resnet9000; want one of efficientnet_lite0"),
    ],
)
def test_backbone_and_size_are_checked(options: dict[str, Any], message: str, shapes: Path, train_small: Train) -> None:
    with pytest.raises(InvalidConfig) as caught:
        train_small(shapes, **options)
    assert caught.value.message.startswith(message)


def test_out_must_be_a_place_to_write(shapes: Path, train_small: Train, tmp_path: Path) -> None:
    (tmp_path / "folder.dt").mkdir()
    with pytest.raises(InvalidConfig, match=r"-o: got .*folder\.dt, a folder; want a file NAME\.dt"):
        train_small(shapes, out=tmp_path / "folder.dt")
    (tmp_path / "file").touch()
    with pytest.raises(Unavailable, match=r"-o: got .*m\.dt; want a file that can be written; .*file does not allow"):
        train_small(shapes, out=tmp_path / "file" / "deep" / "m.dt")


def break_pictures(folder: Path, keep: int) -> None:
    for file in sorted(folder.iterdir())[keep:]:
        file.write_bytes(b"not a picture")


@pytest.mark.parametrize(
    ("spoil", "error", "message"),
    [
        (shutil.rmtree, NotFound, "DATA: got .*; want a folder with a folder of pictures per class"),
        (
            lambda data: shutil.rmtree(data / "square"),
            InvalidInput,
            r"got one class, 'circle' \(6 pictures\); want two",
        ),
        (lambda data: break_pictures(data / "square", 4), InvalidInput, r"'square' has 4 \(2 more could not be read\)"),
        (lambda data: break_pictures(data / "square", 0), InvalidInput, r"'square' has 0 \(6 more could not be read\)"),
        (lambda data: (data / "labels.csv").touch(), InvalidInput, "labels.csv line 1: got nothing"),
        (
            lambda data: [(data / "test").mkdir(), [(data / name).rename(data / "test" / name) for name in SHAPES]],
            InvalidInput,
            "DATA: got 12 pictures, all of them marked test; want pictures to learn from. `drivetrain evaluate` reads",
        ),
    ],
    ids=["gone", "one class", "too few", "none readable", "labels", "test only"],
)
def test_nothing_is_written_when_the_data_is_bad(
    spoil: Callable[[Path], object],
    error: type[DrivetrainError],
    message: str,
    picture_folder: PictureFolder,
    train_small: Train,
    tmp_path: Path,
) -> None:
    data = picture_folder(SHAPES, per_class=6, root=tmp_path / "data")
    spoil(data)
    with pytest.raises(error, match=message):
        train_small(data)
    assert not (tmp_path / "out").exists()


SHAPES = ("circle", "square")


def test_data_too_poor_is_told_before_pictures_are_read(
    picture_folder: PictureFolder, train_small: Train, cold_cache: Path
) -> None:
    data = picture_folder(SHAPES, per_class=4)
    with pytest.raises(InvalidInput, match="'circle' has 4; 'square' has 4; want at least 5 in each class"):
        train_small(data, cache_dir=cold_cache)
    assert not (cold_cache / "features.sqlite").exists()


def test_unreadable_pictures_are_named_and_counted(
    picture_folder: PictureFolder, train_small: Train, tmp_path: Path
) -> None:
    data = picture_folder(SHAPES, per_class=10, root=tmp_path / "data")
    (data / "circle" / "cut.jpg").write_bytes(b"\xff\xd8\xff")
    (data / "square" / "empty.png").touch()
    (data / "square" / "raw.dng").touch()
    (data / "owl").mkdir()
    result = train_small(data)
    assert [path for path, _ in result.unreadable] == ["circle/cut.jpg", "square/empty.png"]
    assert (result.n_train, result.n_valid) == (16, 4)
    assert result.notes[:3] == (
        "Left out, being no pictures by their name, or without a label: 1 file.",
        "Folders without a picture, so no classes: 'owl'.",
        "Left out, because they could not be read: 2 files. None was deleted.",
    )
    report = result.report.read_text("utf-8")
    sheet = read_bundle(result.bundle).members["DATASHEET.md"].decode()
    for text in (report, sheet):
        assert "cut.jpg" in text
        assert "empty.png" in text
    assert (data / "circle" / "cut.jpg").exists()
    assert [row["path"] for row in result.as_json()["unreadable"]] == ["circle/cut.jpg", "square/empty.png"]


def split_folder(picture_folder: PictureFolder, root: Path) -> Path:
    for seed, part in enumerate(("train", "valid", "test")):
        picture_folder(SHAPES, per_class=6, root=root / part, seed=seed)
    return root


def test_a_given_split_is_kept_and_test_left_alone(
    picture_folder: PictureFolder, train_small: Train, cold_cache: Path, tmp_path: Path
) -> None:
    data = split_folder(picture_folder, tmp_path / "data")
    (data / "test" / "circle" / "cut.jpg").write_bytes(b"\xff\xd8\xff")
    result = train_small(data, cache_dir=cold_cache)
    assert (result.n_train, result.n_valid, result.n_computed, result.unreadable) == (12, 12, 24, ())
    assert result.notes[0] == "Left alone, because marked test: 13 pictures. `drivetrain evaluate` reads them."
    manifest = read_bundle(result.bundle).manifest
    assert manifest.training["splitter"] == {"name": "given"}
    shutil.rmtree(data / "test")
    without = train_small(data)
    assert read_bundle(without.bundle).manifest.digest == manifest.digest  # it played no part at all


def test_the_report_names_the_worst_pictures(picture_folder: PictureFolder, train_small: Train, tmp_path: Path) -> None:
    data = split_folder(picture_folder, tmp_path / "data")
    shutil.copy(data / "test" / "circle" / "circle-000.png", data / "valid" / "square" / "impostor.png")
    result = train_small(data, out=tmp_path / "here" / "m.dt")
    assert result.report == tmp_path / "here" / "report.html"
    assert sorted(path.name for path in result.report.parent.iterdir()) == ["m.dt", "report.html"]
    assert result.evaluation.n_correct < result.evaluation.n
    text = html.unescape(result.report.read_text("utf-8"))
    assert "valid/square/impostor.png" in text
    assert result.statement in text
    assert len(result.notes) > 1
    assert all(note in text for note in result.notes)


COUNTED = (
    "Held-out pictures of one group stand in one half, the one that shapes the rule or the one that tests the promise. "
    "Within a half the promise counts every picture by itself, although pictures of one group are alike."
)


def compress(file: Path, copy: Path) -> None:
    with Image.open(file) as image:
        image.save(copy, quality=40)


def photograph(file: Path, *, seed: int) -> None:
    """Blocks of noise: as rich in detail as a photograph."""
    blocks = np.random.default_rng(seed).integers(0, 256, (12, 16, 3), dtype=np.uint8)
    Image.fromarray(blocks).resize((256, 192), Image.Resampling.BILINEAR).save(file)


def test_copies_across_a_given_split_are_told(
    picture_folder: PictureFolder, train_small: Train, tmp_path: Path
) -> None:
    data = split_folder(picture_folder, tmp_path / "data")
    photograph(data / "train" / "circle" / "a.png", seed=0)
    shutil.copy(data / "train" / "circle" / "a.png", data / "valid" / "circle" / "a-twin.png")
    compress(data / "train" / "circle" / "a.png", data / "valid" / "circle" / "b-twin.jpg")
    shutil.copy(data / "valid" / "circle" / "circle-001.png", data / "valid" / "circle" / "z-copy.png")  # no leak
    result = train_small(data)
    assert (
        "Held-out pictures that are copies of ones trained on: 2 (1 of them the same file), such as "
        "valid/circle/a-twin.png, of train/circle/a.png. They flatter every number here: remove them, or drop the "
        "split of the data, and drivetrain makes one that keeps copies together."
    ) in result.notes
    assert COUNTED in result.notes
    assert read_bundle(result.bundle).manifest.training["splitter"] == {"name": "given"}
    assert (result.n_train, result.n_valid) == (13, 15)


def test_copies_stay_on_one_side_by_default(train_small: Train, tmp_path: Path) -> None:
    """Three of each picture: the same file twice and a recompressed one; by chance most would be parted."""
    data = tmp_path / "data"
    for label in ("north", "south"):
        (data / label).mkdir(parents=True)
        for number in range(10):
            file = data / label / f"{number}.png"
            photograph(file, seed=number + 100 * (label == "south"))
            shutil.copy(file, data / label / f"{number + 50}.png")
            compress(file, data / label / f"{number + 70}.jpg")
    result = train_small(data, valid_share=0.3)
    assert (result.n_train, result.n_valid) == (42, 18)
    assert result.notes[0] == (
        "60 pictures are copies of others (20 groups): each group stays on one side of the split. Such as north/0.png "
        "and north/50.png."
    )
    assert result.notes[0] in html.unescape(result.report.read_text("utf-8"))
    bundle = read_bundle(result.bundle)
    assert bundle.manifest.training["splitter"]["group_by"] == ["copies"]
    # The classes are chance: whoever deals copies into several folds finds nearly all of them again.
    assert bundle.manifest.training["head"]["cv_accuracy"] < 0.8
    assert COUNTED in result.notes


def test_copies_stay_in_one_half_of_those_held_out(train_small: Train, tmp_path: Path) -> None:
    """Four of each picture: the half that shapes the rule holds all four or none."""
    data = tmp_path / "data"
    for label in ("north", "south"):
        (data / label).mkdir(parents=True)
        for number in range(10):
            file = data / label / f"{number}.png"
            photograph(file, seed=number + 100 * (label == "south"))
            for copy in range(1, 4):
                shutil.copy(file, data / label / f"{number}-{copy}.png")
    result = train_small(data, valid_share=0.4)
    assert result.n_valid == 32
    distances = read_bundle(result.bundle).arrays["ood_calibration"].round(5)
    assert np.unique(distances, return_counts=True)[1].tolist() == [4, 4, 4, 4]


def test_one_picture_in_two_classes_is_told(train_small: Train, picture_folder: PictureFolder, tmp_path: Path) -> None:
    data = picture_folder(SHAPES, per_class=8, root=tmp_path / "data")
    photograph(data / "circle" / "x.png", seed=0)
    compress(data / "circle" / "x.png", data / "square" / "y.jpg")
    assert (
        "Pictures that stand in two classes, as copies: 1 group, such as circle/x.png and square/y.jpg. One of the "
        "labels is wrong, or the picture shows both."
    ) in train_small(data).notes


def test_a_class_of_copies_alone_is_trained_all_the_same(
    train_small: Train, picture_folder: PictureFolder, tmp_path: Path
) -> None:
    data = picture_folder(("circle",), per_class=10, root=tmp_path / "data")
    (data / "noise").mkdir()
    photograph(data / "noise" / "0.png", seed=0)
    for number in range(1, 10):
        shutil.copy(data / "noise" / "0.png", data / "noise" / f"{number}.png")
    result = train_small(data)
    assert result.n_valid == 4
    assert (
        "All pictures of 'noise' are copies of one picture, so they stand on both sides after all: the numbers say "
        "nothing of that class. Add pictures that are not copies."
    ) in result.notes


def test_groups_stay_together(picture_folder: PictureFolder, train_small: Train, tmp_path: Path) -> None:
    data = picture_folder(SHAPES, per_class=12, root=tmp_path / "data")
    rows = [
        f"{file.relative_to(data).as_posix()},{file.parent.name},{file.parent.name}-{i // 4}"
        for folder in sorted(data.iterdir())
        for i, file in enumerate(sorted(folder.iterdir()))
    ]
    (data / "labels.csv").write_text("\n".join(["path,label,group", *rows]))
    result = train_small(data)
    assert result.n_valid == 8  # one group of four of each class
    assert (
        "Held-out pictures of one group stand in one half, the one that shapes the rule or the one that tests the "
        "promise, save those of 'circle', 'square', which are all of one group: they shape the rule that they test, so "
        "add other groups. Within a half the promise counts every picture by itself, although pictures of one group "
        "are alike."
    ) in result.notes
    assert read_bundle(result.bundle).manifest.training["splitter"] == {
        "name": "stratified",
        "valid": 0.2,
        "seed": 42,
        "group_by": ["group", "copies"],
    }


@pytest.mark.skipif(os.name != "posix", reason="other systems refuse such names")
def test_names_that_are_not_utf8_are_left_out_and_named(
    picture_folder: PictureFolder, train_small: Train, tmp_path: Path
) -> None:
    data = picture_folder(SHAPES, per_class=6, root=tmp_path / "data")
    odd = Path(os.fsdecode(os.fsencode(data / "circle") + b"/b\xe4r.png"))
    try:
        shutil.copy(data / "circle" / "circle-000.png", odd)
    except OSError:
        pytest.skip("this file system refuses such names")
    result = train_small(data)
    assert result.unreadable == (("circle/b\\udce4r.png", "its name is not UTF-8: rename it"),)
    assert "b\\udce4r.png" in result.report.read_text("utf-8")


def test_the_result_is_what_was_written(trained: TrainResult) -> None:
    bundle = read_bundle(trained.bundle)
    assert (trained.digest, trained.version) == (bundle.manifest.digest, bundle.version)
    assert re.fullmatch(r"shapes@[0-9a-f]{12}", trained.version)
    assert trained.n_train + trained.n_valid == 180
    assert trained.n_valid == pytest.approx(72, abs=12)  # some of the generated stripes are copies of one another
    assert trained.statement == bundle.manifest.decision["statement"]
    plain = json.loads(json.dumps(trained.as_json()))
    assert plain["evaluation"] == bundle.manifest.evaluation
    assert plain["timings_s"].keys() >= {"reading the folder", "features of the pictures", "writing the report"}
    assert sum(plain["timings_s"].values()) <= plain["seconds"]
    assert load(trained.bundle).classes == ("circle", "square", "stripes")


def test_training_and_serving_agree_on_every_held_out_picture(shapes: Path, train_small: Train) -> None:
    """What was computed from cached features is what the exported file answers."""
    result = train_small(shapes, valid_share=0.5)
    predictor = load(result.bundle)
    answers = {file: predictor.predict(file) for file in sorted(shapes.rglob("*.png"))}
    rate = sum(file.parent.name == answer.label for file, answer in answers.items()) / len(answers)
    assert rate >= 0.9
    assert result.evaluation.n == 12
