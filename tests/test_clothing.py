"""The whole path on real photographs: what the project promises, shown on data it was not made for."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Sequence
from http.client import HTTPConnection
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from PIL import Image, ImageOps

from drivetrain.data.items import Item, read_items
from drivetrain.data.split import order_by_seed, split_items
from drivetrain.flows.demo import write_digits
from drivetrain.flows.evaluate import evaluate
from drivetrain.flows.train import TrainConfig, TrainResult, train
from drivetrain.imaging.decode import DecodeLimits
from drivetrain.imaging.preprocess import Preprocess, declare_preprocess
from drivetrain.inspect.duplicates import find_duplicates
from drivetrain.learn.trunk import prepare_trunk
from drivetrain.progress import SilentProgress
from drivetrain.runtime.feature_cache import FeatureCache
from drivetrain.runtime.features import FeatureTable, FrozenTrunk, extract_features
from drivetrain.runtime.predictor import Predictor, load
from drivetrain.serve.app import create_app
from drivetrain.serve.model import PredictorModel
from drivetrain.serve.server import start_server
from drivetrain.settings import Settings, load_settings

pytestmark = pytest.mark.realdata


@pytest.fixture(scope="module")
def clothing_settings(shared_cache: Path) -> Settings:
    return load_settings(environ={}, flags={"cache_dir": shared_cache})


@pytest.fixture(scope="module")
def clothing(data_root: Path, clothing_settings: Settings, tmp_path_factory: pytest.TempPathFactory) -> TrainResult:
    """Trained on clothing/train, calibrated on clothing/validation; clothing/test stays unseen."""
    folder = tmp_path_factory.mktemp("clothing")
    (folder / "data").mkdir()
    for part in ("train", "validation"):
        for file in (data_root / "clothing" / part).rglob("*.jpg"):
            place = folder / "data" / part / file.parent.name
            place.mkdir(parents=True, exist_ok=True)
            (place / file.name).symlink_to(file)
    config = TrainConfig(data=folder / "data", out=folder / "clothing.dt", method="head")
    return train(config, settings=clothing_settings, progress=SilentProgress())


@pytest.fixture(scope="module")
def predictor(clothing: TrainResult) -> Predictor:
    return load(clothing.bundle, threads=2)


def test_head_is_right_on_89_of_100_pictures_from_elsewhere(predictor: Predictor, data_root: Path) -> None:
    result = evaluate(predictor, data_root / "clothing" / "test", progress=SilentProgress())
    assert result.evaluation.n == 372
    assert result.evaluation.accuracy >= 0.89
    assert result.unreadable == ()
    # the promise was certified on other pictures; here it must hold within its sampling error
    assert result.evaluation.deferral.error_low <= 0.05
    assert result.evaluation.deferral.coverage > 0.4
    assert result.evaluation.ood.rate < 0.1


def test_a_second_run_decodes_and_infers_nothing(
    clothing: TrainResult, clothing_settings: Settings, tmp_path: Path
) -> None:
    config = TrainConfig(data=clothing.bundle.parent / "data", out=tmp_path / "clothing.dt", method="head")
    again = train(config, settings=clothing_settings, progress=SilentProgress())
    assert (clothing.n_computed, again.n_computed) == (3409, 0)
    assert again.digest == clothing.digest


def make_copies(files: Sequence[Path], folder: Path) -> dict[Path, Path]:
    """copy -> original: each third halved, mirrored or cropped, and all recompressed."""
    made = {}
    for number, file in enumerate(files):
        with Image.open(file) as image:
            width, height = image.size
            changed = (
                image.resize((width // 2, height // 2)),
                ImageOps.mirror(image),
                image.crop((round(0.03 * width), 0, width, round(0.97 * height))),
            )[number % 3]
            copy = folder / f"{number}.jpg"
            changed.convert("RGB").save(copy, quality=60)
        made[copy] = file
    return made


def look_at(files: Sequence[Path], settings: Settings) -> FeatureTable:
    trunk = prepare_trunk("efficientnet_lite0", size=224, cache_dir=settings.cache_dir, progress=SilentProgress())
    frozen = FrozenTrunk(
        model=trunk.model,
        weights_digest=trunk.weights_digest,
        feature_count=trunk.layout.count,
        map_channels=trunk.layout.last,
        preprocess=Preprocess(declare_preprocess(trunk.size, mean=trunk.mean, std=trunk.std)),
    )
    with FeatureCache(settings.cache_dir) as cache:
        return extract_features(
            files, trunk=frozen, cache=cache, threads=2, limits=DecodeLimits(), progress=SilentProgress()
        )


def test_no_copies_stand_on_both_sides_of_a_split_we_make(
    data_root: Path, clothing_settings: Settings, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Train and validation as one folder, with copies of 60 photographs put among them."""
    parts = [data_root / "clothing" / name for name in ("train", "validation")]
    files = [file for part in parts for file in sorted(part.rglob("*.jpg"))]
    made = make_copies(files[:: len(files) // 60], tmp_path)
    paths = [str(file) for file in (*files, *made)]
    labels = [file.parent.name for file in (*files, *made.values())]
    table = look_at([*files, *made], clothing_settings)
    begun = time.perf_counter()
    copies = find_duplicates(table.digests, table.fingerprints, table.features[:, :1280])  # of the last map, as `train`
    seconds = time.perf_counter() - begun
    row_of = {path: row for row, path in enumerate(paths)}
    found = sum(copies.clusters[row_of[str(a)]] == copies.clusters[row_of[str(b)]] for a, b in made.items())
    among_real = [rows for rows in copies.groups if sum(row < len(files) for row in rows) > 1]
    with capsys.disabled():
        sys.stdout.write(
            f"\nclothing: {len(among_real)} cluster(s) of copies among {len(files):,} photographs, the largest of "
            f"{max(map(len, copies.groups))}; {found} of {len(made)} made copies found; {seconds:.2f} s\n"
        )
    assert found >= 0.93 * len(made)
    assert len(among_real) <= 3  # one pair was seen by eye; more would be other shirts on the same table
    items = [Item(path=path, label=label) for path, label in zip(paths, labels, strict=True)]
    groups = [[paths[row] for row in rows] for rows in copies.groups]
    for seed in range(5):
        split = split_items(items, valid_share=0.2, seed=seed, copies=groups)
        held_out = {item.path for item in split.valid}
        assert split.parted == ()
        assert 0.18 < len(held_out) / len(items) < 0.22
        assert all(len({path in held_out for path in group}) == 1 for group in groups)


def test_the_server_answers_what_evaluate_says(predictor: Predictor, data_root: Path, settings: Settings) -> None:
    items = read_items(data_root / "clothing" / "test")
    items = items.keep(order_by_seed(items.items, 0)[:200])
    files = [items.file(item) for item in items]
    expected = list(predictor.predict_many(files))
    with start_server(create_app(PredictorModel(predictor), settings)) as server:
        connection = HTTPConnection(urlsplit(server.url).netloc, timeout=30)
        for file, prediction in zip(files, expected, strict=True):
            connection.request("POST", "/predict", body=file.read_bytes(), headers={"Content-Type": "image/jpeg"})
            response = connection.getresponse()
            assert response.status == 200
            answer = json.loads(response.read())
            assert answer["probabilities"] == pytest.approx(prediction.probabilities, abs=1e-5)
            assert answer["decision"] == prediction.decision
        connection.close()
    assert len(files) == 200


def test_digits_look_like_nothing_it_was_trained_on(predictor: Predictor, tmp_path: Path) -> None:
    write_digits(tmp_path, progress=SilentProgress())
    answers = list(predictor.predict_many(sorted(tmp_path.rglob("*.png"))[::30]))
    flagged = ["unknown" in answer.reasons for answer in answers]
    assert len(flagged) == 60
    assert sum(flagged) >= 57
