"""The whole path on real photographs: what the project promises, shown on data it was not made for."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Sequence
from http.client import HTTPConnection
from pathlib import Path
from urllib.parse import urlsplit

import numpy as np
import pytest
from PIL import Image, ImageOps

from drivetrain.data.items import Item, read_items
from drivetrain.data.split import order_by_seed, split_items
from drivetrain.flows.demo import write_digits
from drivetrain.flows.evaluate import EvaluateResult, evaluate
from drivetrain.flows.fit_known import choose_known, fit_known
from drivetrain.flows.train import TrainConfig, TrainResult, train
from drivetrain.imaging.decode import DecodeLimits
from drivetrain.imaging.preprocess import Preprocess, declare_preprocess
from drivetrain.inspect.duplicates import find_duplicates
from drivetrain.learn.folds import deal_folds
from drivetrain.learn.head import fit_head
from drivetrain.learn.layout import FeatureLayout
from drivetrain.learn.trunk import Trunk, prepare_trunk
from drivetrain.progress import SilentProgress
from drivetrain.runtime.feature_cache import FeatureCache
from drivetrain.runtime.features import FeatureTable, FrozenTrunk, extract_features
from drivetrain.runtime.known import KnownRule
from drivetrain.runtime.predictor import Predictor, load
from drivetrain.serve.app import create_app
from drivetrain.serve.model import PredictorModel
from drivetrain.serve.server import start_server
from drivetrain.settings import Settings, load_settings
from drivetrain.trust.calibration import fit_temperature
from drivetrain.trust.detection import measure_detection

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


@pytest.fixture(scope="module")
def result(predictor: Predictor, data_root: Path) -> EvaluateResult:
    return evaluate(predictor, data_root / "clothing" / "test", progress=SilentProgress())


def test_head_is_right_on_89_of_100_pictures_from_elsewhere(result: EvaluateResult) -> None:
    assert result.evaluation.n == 372
    assert result.evaluation.accuracy >= 0.89
    assert result.unreadable == ()
    # promised: 5 %; 2 of 268 are wrong, and other kernels on another processor may make it 6
    assert result.evaluation.deferral.error_high <= 0.05
    assert result.evaluation.deferral.coverage > 0.4
    assert result.evaluation.ood.rate < 0.1


def test_a_second_run_decodes_and_infers_nothing(
    clothing: TrainResult, clothing_settings: Settings, tmp_path: Path
) -> None:
    config = TrainConfig(data=clothing.bundle.parent / "data", out=tmp_path / "clothing.dt", method="head")
    again = train(config, settings=clothing_settings, progress=SilentProgress())
    assert (clothing.n_computed, again.n_computed) == (3409, 0)
    assert again.digest == clothing.digest


def test_pictures_of_another_kind_are_told(
    result: EvaluateResult, predictor: Predictor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(str(Path(__file__).parents[1]))  # the bench is no part of the package
    from bench.foreign import make_foreign

    known = np.array([answer.ood_score for _, answer in result.predictions])
    kinds = {kind: files[:: max(1, len(files) // 100)] for kind, files in make_foreign(tmp_path).items()}
    assert {kind: len(files) for kind, files in kinds.items()} == {
        "digits of scikit-learn": 100,
        "text": 100,
        "noise": 100,
        "flat colours": 100,
        "textile under a lens": 100,
        "photographs of scikit-image": 120,
    }
    for kind, files in kinds.items():
        told = measure_detection(known, np.array([one.ood_score for one in predictor.predict_many(files)]), repeats=2)
        assert told.auroc >= 0.995, kind
        assert told.fpr95 <= 0.02, kind


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


def open_trunk(settings: Settings) -> Trunk:
    return prepare_trunk("efficientnet_lite0", size=224, cache_dir=settings.cache_dir, progress=SilentProgress())


def look_at(files: Sequence[Path], settings: Settings) -> FeatureTable:
    trunk = open_trunk(settings)
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


def leave_out(label: int, labels: np.ndarray, features: np.ndarray, layout: FeatureLayout) -> float:
    """AUROC of a class against held-out pictures of the others, to which alone head and rule are fitted."""
    others = np.flatnonzero(labels != label)
    tenth = deal_folds(labels[others], count=10)  # eight train, one fits the rule, one is told from the class
    rows, held, judged = others[tenth < 8], others[tenth == 8], others[tenth == 9]
    classes, trained = np.unique(labels[rows], return_inverse=True)
    read, frozen = features[:, : layout.head_count], features[:, : layout.last]
    head = fit_head(
        read[rows], trained, class_count=len(classes), threads=2, progress=SilentProgress(), blocks=layout.blocks,
        penalties=(0.03,),  # what all ten classes choose
    )  # fmt: skip
    logits = head.logits(read)
    calibrated = logits / fit_temperature(logits[held], np.searchsorted(classes, labels[held]))
    known = fit_known(
        frozen[rows], trained, frozen[held], np.arange(len(held)), [],
        known_logits=logits[rows[choose_known(trained, outputs=len(classes))]],
        valid_logits=logits[held], calibrated=calibrated[held],
    )  # fmt: skip
    rule = KnownRule({"ood": known.section}, known.arrays, feature_count=layout.last, output_count=len(classes))
    sides = [rule.scores(frozen[of], logits[of], calibrated[of]) for of in (judged, np.flatnonzero(labels == label))]
    return measure_detection(*sides, repeats=2).auroc


@pytest.mark.usefixtures("clothing")  # by then the features are in the cache
def test_a_class_that_was_left_out_is_told_from_the_others(data_root: Path, clothing_settings: Settings) -> None:
    files = sorted(file for part in ("train", "validation") for file in (data_root / "clothing" / part).rglob("*.jpg"))
    files = [files[at] for at in np.random.default_rng(0).permutation(len(files))]
    names, labels = np.unique([file.parent.name for file in files], return_inverse=True)
    features, layout = look_at(files, clothing_settings).features, open_trunk(clothing_settings).layout
    aurocs = {str(name): leave_out(label, labels, features, layout) for label, name in enumerate(names)}
    assert len(aurocs) == 10
    assert np.mean([*aurocs.values()]) >= 0.83, aurocs


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
