"""What all tests share: a clean environment, settings, generated pictures, and skips that CI does not accept."""

from __future__ import annotations

import colorsys
import os
import signal
import uuid
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Protocol

import numpy as np
import pytest
from PIL import Image

from drivetrain.flows.train import TrainConfig, TrainResult, train
from drivetrain.progress import SilentProgress
from drivetrain.settings import Settings, load_settings
from drivetrain.store.database import connect

# read before a fixture clears what starts with DRIVETRAIN_
POSTGRES_URL = os.environ.get("DRIVETRAIN_TEST_POSTGRES")
TRAINED_SIZE = 96  # pixels: the smallest trunk, for speed
SHAPES = ("circle", "square", "stripes")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--require",
        action="append",
        default=[],
        metavar="MARKER",
        help="fail the tests with this marker that would skip; given at all, a module that skips itself fails too",
    )


def pytest_configure(config: pytest.Config) -> None:
    _hear_ctrl_c()
    _share_cores(getattr(config.option, "numprocesses", None) or 1)


def _share_cores(processes: int) -> None:
    """Side by side, each process of torch gets its part of the cores: its threads wait by spinning.

    Two on two cores took more than twice as long as with a thread each (261 tests: 122 s against 51).
    """
    if processes > 1:  # before they start, for each reads it when torch is loaded
        os.environ.setdefault("OMP_NUM_THREADS", str(max(1, (os.cpu_count() or 1) // processes)))


def _hear_ctrl_c() -> None:
    """Where the caller ignores it: a shell's background job passes that on to every child.

    Symptom before: a test that stops a run by SIGINT waited for ever, and the whole CI with it.
    """
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Iterator[None]:
    report = yield
    required = [name for name in item.config.getoption("--require") if item.get_closest_marker(name)]
    if report.skipped and required and not hasattr(report, "wasxfail"):
        report.outcome = "failed"
        report.longrepr = f"a test marked {required[0]!r} skipped, but must run here: {_reason(report)}"
    return report


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report(collector: pytest.Collector) -> Iterator[None]:
    report = yield
    if report.skipped and collector.config.getoption("--require"):
        report.outcome = "failed"
        report.longrepr = f"a module skipped itself, but must run here: {_reason(report)}"
    return report


def _reason(report: pytest.TestReport | pytest.CollectReport) -> str:
    return str(report.longrepr[2] if isinstance(report.longrepr, tuple) else report.longrepr)


@pytest.fixture(scope="session", autouse=True)
def _clean_environment(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """No setting of who runs the tests reaches them, and no test writes to that person's cache or database."""
    with pytest.MonkeyPatch.context() as patch:
        for name in [name for name in os.environ if name.startswith("DRIVETRAIN_") and name != "DRIVETRAIN_DATA"]:
            patch.delenv(name)
        patch.setenv("DRIVETRAIN_CACHE_DIR", str(tmp_path_factory.mktemp("cache")))
        patch.setenv("DRIVETRAIN_DB", "none")
        patch.delenv("XDG_DATA_HOME", raising=False)
        yield


@pytest.fixture(scope="session")
def data_root() -> Path:
    """The folder that holds clothing/; tests that ask for it carry the marker `realdata`."""
    root = os.environ.get("DRIVETRAIN_DATA")
    if not root:
        pytest.skip("set DRIVETRAIN_DATA to the folder that holds clothing/")
    if not Path(root, "clothing").is_dir():
        pytest.fail(f"DRIVETRAIN_DATA is {root!r}, which has no folder clothing/")
    return Path(root).resolve()


@pytest.fixture(params=["sqlite", pytest.param("postgres", marks=[pytest.mark.slow, pytest.mark.postgres])])
def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """An empty database of each kind: SQLite always, PostgreSQL where DRIVETRAIN_TEST_POSTGRES names one."""
    if request.param == "sqlite":
        yield f"sqlite:///{tmp_path}/data/drivetrain.db"
    else:
        yield from _postgres_url()


def _postgres_url() -> Iterator[str]:
    """A schema of its own in the database that was named, gone afterwards."""
    if not POSTGRES_URL:
        pytest.skip("set DRIVETRAIN_TEST_POSTGRES to postgresql://USER:PASSWORD@HOST/NAME (`make test-all` starts one)")
    schema = f"t{uuid.uuid4().hex}"
    database = connect(POSTGRES_URL)
    with database.write() as db:
        db.exec_driver_sql(f"CREATE SCHEMA {schema}")
    yield f"{POSTGRES_URL}{'&' if '?' in POSTGRES_URL else '?'}options=-csearch_path%3D{schema}"
    with database.write() as db:
        db.exec_driver_sql(f"DROP SCHEMA {schema} CASCADE")
    database.close()


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return load_settings(environ={}, folder=tmp_path, flags={"cache_dir": tmp_path / "cache"})


@pytest.fixture(scope="session")
def shared_cache() -> Path:
    """The session's cache folder, so that the trunk is exported once (seconds) for all tests that train."""
    return Path(os.environ["DRIVETRAIN_CACHE_DIR"])


@pytest.fixture(scope="session")
def trained(picture_folder: PictureFolder, shared_cache: Path, tmp_path_factory: pytest.TempPathFactory) -> TrainResult:
    """A small model of three shapes, trained once on 108 pictures of 180; tests must not write to its files."""
    return train(
        TrainConfig(
            data=picture_folder(per_class=60, suffix=".jpg"),
            out=tmp_path_factory.mktemp("trained") / "shapes.dt",
            size=TRAINED_SIZE,
            valid_share=0.4,
        ),
        settings=load_settings(environ={}, flags={"cache_dir": shared_cache}),
        progress=SilentProgress(),
    )


class PictureFolder(Protocol):
    def __call__(
        self,
        classes: Sequence[str] = SHAPES,
        *,
        per_class: int = 8,
        size: tuple[int, int] = (64, 48),
        suffix: str = ".png",
        seed: int = 0,
        root: Path | None = None,
    ) -> Path: ...


@pytest.fixture(scope="session")
def picture_folder(tmp_path_factory: pytest.TempPathFactory) -> PictureFolder:
    """Writes a folder per class with pictures of its own shape and colour: easy to learn, the same every time."""

    def write(
        classes: Sequence[str] = SHAPES,
        *,
        per_class: int = 8,
        size: tuple[int, int] = (64, 48),
        suffix: str = ".png",
        seed: int = 0,
        root: Path | None = None,
    ) -> Path:
        root = tmp_path_factory.mktemp("pictures") if root is None else root
        for index, name in enumerate(classes):
            folder = root / name
            folder.mkdir(parents=True)
            for number in range(per_class):
                rng = np.random.default_rng([seed, index, number])
                picture = draw(index, size=size, rng=rng)
                Image.fromarray(picture).save(folder / f"{name}-{number:03}{suffix}")
        return root

    return write


def draw(index: int, *, size: tuple[int, int], rng: np.random.Generator) -> np.ndarray:
    """A noisy (h, w, 3) uint8 picture of class `index`: its shape and hue are fixed, place and size vary."""
    width, height = size
    y, x = np.mgrid[:height, :width]
    centre_x, centre_y = rng.uniform(0.4, 0.6, 2) * size
    radius = rng.uniform(0.25, 0.4) * min(size)
    shape = {
        "circle": (x - centre_x) ** 2 + (y - centre_y) ** 2 < radius**2,
        "square": np.maximum(abs(x - centre_x), abs(y - centre_y)) < radius,
        "stripes": (x + y + int(centre_x)) % 12 < 6,
    }[SHAPES[index % len(SHAPES)]]
    colour = np.array(colorsys.hsv_to_rgb(index * 0.618 % 1.0, 0.9, 0.9)) * 255
    picture = np.where(shape[..., None], colour, 110.0) + rng.normal(0, 12, (height, width, 3))
    return picture.clip(0, 255).astype(np.uint8)
