"""show_batch: how many pictures, in which places, with which titles; a notebook shows the figure once."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib.figure import Figure

from drivetrain.data.transforms import RandomResizedCrop, Resize
from drivetrain.errors import InvalidConfig, MissingExtra
from drivetrain.learn.augment import Normalize
from drivetrain.learn.blocks import CategoryBlock, ImageBlock, MultiCategoryBlock, RegressionBlock
from drivetrain.learn.data_block import DataBlock
from drivetrain.learn.data_loaders import DataLoaders
from drivetrain.settings import Settings

from .makers import block_of


def load(folder: Path, settings: Settings, block: DataBlock | None = None) -> DataLoaders:
    return (block or block_of()).dataloaders(folder, bs=4, device="cpu", settings=settings)


def shown(figure: Figure) -> list[tuple[np.ndarray, str]]:
    return [(np.asarray(axis.images[0].get_array()), axis.get_title()) for axis in figure.axes if axis.images]


def grid(figure: Figure) -> tuple[int, int]:
    places = figure.axes[0].get_subplotspec()
    assert places is not None
    return places.get_gridspec().nrows, places.get_gridspec().ncols


def test_pictures_with_their_labels(folder: Path, settings: Settings) -> None:
    dls = load(folder, settings)
    pictures = shown(dls.valid.show_batch())
    assert [title for _, title in pictures] == ["cat", "dog", "dog"]  # the held-out ones in their order
    expected = next(iter(dls.valid))[0].permute(0, 2, 3, 1).numpy()
    for (picture, _), pixels in zip(pictures, expected, strict=True):
        np.testing.assert_allclose(picture, pixels)


def test_how_many_and_where(folder: Path, settings: Settings) -> None:
    dls = load(folder, settings)
    assert len(shown(dls.show_batch())) == 9  # more than a batch
    assert grid(dls.show_batch()) == (3, 3)
    assert len(shown(dls.show_batch(max_n=4))) == 4
    assert grid(dls.show_batch(max_n=4, nrows=1)) == (1, 4)
    assert grid(dls.show_batch(max_n=4, ncols=1)) == (4, 1)
    assert grid(dls.show_batch(max_n=5, nrows=2, ncols=4)) == (2, 4)
    assert len(shown(dls.show_batch(max_n=5, nrows=2, ncols=4))) == 5
    few = dls.show_batch(nrows=1, ncols=3)  # was refused: 3 places for the 9 that max_n is by default
    assert (grid(few), len(shown(few))) == ((1, 3), 3)
    assert grid(dls.show_batch(max_n=3)) == (1, 3)
    assert len(shown(dls.valid.show_batch(max_n=50))) == 3  # there are no more
    assert tuple(dls.show_batch(figsize=(3, 5)).get_size_inches()) == (3, 5)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"max_n": 0}, r"show_batch\(max_n\): got 0"),
        ({"nrows": 0}, r"show_batch\(nrows\): got 0"),
        ({"ncols": -1}, r"show_batch\(ncols\): got -1"),
    ],
)
def test_places_that_cannot_be(folder: Path, settings: Settings, options: dict[str, int], said: str) -> None:
    with pytest.raises(InvalidConfig, match=said):
        load(folder, settings).show_batch(**options)


def test_unique_shows_one_picture_under_several_draws(folder: Path, settings: Settings) -> None:
    dls = load(folder, settings, block_of(item_tfms=RandomResizedCrop(16, min_scale=0.3)))
    pictures = shown(dls.train.show_batch(max_n=4, nrows=1, unique=True))
    assert [title for _, title in pictures] == ["cat"] * 4
    assert len({picture.tobytes() for picture, _ in pictures}) == 4
    same = load(folder, settings, block_of(item_tfms=Resize(16, "squish")))
    assert len({picture.tobytes() for picture, _ in shown(same.show_batch(max_n=3, unique=True))}) == 1


def test_unique_takes_the_first_that_can_be_read(folder: Path, settings: Settings) -> None:
    (folder / "cat/02.jpg").write_bytes(b"no picture")
    with pytest.warns(UserWarning, match=r"cat/02.jpg"):
        assert len(shown(load(folder, settings).show_batch(max_n=2, unique=True))) == 2


def test_another_look_shows_other_pictures(folder: Path, settings: Settings) -> None:
    dls = load(folder, settings)
    first, second = ({picture.tobytes() for picture, _ in shown(dls.show_batch(max_n=3))} for _ in range(2))
    assert first != second


def test_normalisation_is_undone(folder: Path, settings: Settings) -> None:
    plain = load(folder, settings)
    normalised = load(folder, settings, block_of(batch_tfms=Normalize.from_stats([0.5] * 3, [0.2] * 3)))
    for (a, _), (b, _) in zip(shown(plain.valid.show_batch()), shown(normalised.valid.show_batch()), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-5)


def test_a_batch_may_be_given(folder: Path, settings: Settings) -> None:
    dls = load(folder, settings)
    batch = dls.one_batch()
    pictures = shown(dls.show_batch(batch, max_n=2))
    assert [title for _, title in pictures] == [dls.vocab[int(y)] for y in batch[1][:2]]


@pytest.mark.parametrize(
    ("block", "label", "title"),
    [
        (MultiCategoryBlock, ["sun", "sea"], "sea;sun"),
        (RegressionBlock, 2.5, "2.5"),
        (RegressionBlock, [1, 2.25], "1, 2.25"),
        (CategoryBlock, "x" * 60, "x" * 27 + "…"),
    ],
)
def test_titles(folder: Path, settings: Settings, block: Any, label: Any, title: str) -> None:
    dls = load(folder, settings, block_of(blocks=(ImageBlock, block), get_y=lambda file: label))
    assert shown(dls.show_batch(max_n=1))[0][1] == title


def test_pictures_without_labels(folder: Path, settings: Settings) -> None:
    dls = load(folder, settings)
    assert [title for _, title in shown(dls.test_dl(dls.valid.items).show_batch())] == [""] * 3


def test_a_notebook_shows_it_once(folder: Path, settings: Settings) -> None:
    """As what a cell gives back, and not by pyplot as well: that would show it twice."""
    from matplotlib import _pylab_helpers

    figure = load(folder, settings).show_batch(max_n=2)
    assert figure._repr_png_().startswith(b"\x89PNG")  # type: ignore[attr-defined]
    assert not _pylab_helpers.Gcf.get_all_fig_managers()
    assert "matplotlib.pyplot" not in sys.modules or not _pylab_helpers.Gcf.figs


def test_without_matplotlib_it_says_what_to_install(folder: Path) -> None:
    script = f"""
import sys
sys.modules["matplotlib"] = None
from pathlib import Path
from drivetrain import DataBlock, ImageBlock, Resize, get_image_files
from drivetrain.errors import MissingExtra
files = get_image_files(Path({str(folder)!r}))
dls = DataBlock(blocks=ImageBlock, item_tfms=Resize(16)).dataloaders(files, bs=2, device="cpu")
try:
    dls.show_batch()
except MissingExtra as exc:
    print(exc.code, exc)
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=120, check=False)
    assert done.stdout.startswith(MissingExtra.code), done.stderr
    assert "pip install 'drivetrain[train]'" in done.stdout
