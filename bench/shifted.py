"""How often is a new style flagged, and how often a usual one?

`python -m bench.shifted FOLDER` prints the table of docs/shifted.md for a folder of JPEGs. Styles do not depend on the
model, so nothing is trained: pictures are dealt into four fifths to train on, a tenth to calibrate on and a tenth that
is judged, as it is and with each fault.
"""

from __future__ import annotations

import io
import sys
from collections import Counter
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import numpy as np
from PIL import Image, ImageFilter

from drivetrain.arrays import FloatArray
from drivetrain.flows.fit_shift import Shift, fit_shift
from drivetrain.imaging.decode import DecodeLimits, apply_exif_turn, decode_picture
from drivetrain.imaging.preprocess import Preprocess, declare_preprocess
from drivetrain.imaging.style_measures import StyledPreprocess
from drivetrain.learn.trunk import prepare_trunk
from drivetrain.progress import SilentProgress
from drivetrain.runtime.parallel import map_in_order
from drivetrain.runtime.shifted import ShiftRule
from drivetrain.settings import load_settings
from drivetrain.trust.estimate import wilson_interval

_SIDE = 224
_ALPHA = 0.01
_SPLITS = 200
_EVERY = 4  # every fourth picture gets the faults

Change = Callable[[Image.Image], Image.Image]


def _scale(image: Image.Image, *, by: float) -> Image.Image:
    return image.point(lambda value: int(value * by))


def _blur(image: Image.Image, *, sigma: float) -> Image.Image:
    """sigma in pixels of the picture at 224 on its shorter side."""
    return image.filter(ImageFilter.GaussianBlur(sigma * min(image.size) / _SIDE))


def _shrink(image: Image.Image, *, side: int) -> Image.Image:
    by = side / min(image.size)
    return image.resize((round(image.width * by), round(image.height * by)), Image.Resampling.BILINEAR)


def _grey(image: Image.Image) -> Image.Image:
    return image.convert("L").convert("RGB")


def _draw(image: Image.Image) -> Image.Image:
    """Black lines on white where there was an edge."""
    edges = image.convert("L").filter(ImageFilter.GaussianBlur(1)).filter(ImageFilter.FIND_EDGES)
    return edges.point(lambda value: 0 if value > 24 else 255).convert("RGB")


def _compress(image: Image.Image, *, quality: int) -> Image.Image:
    out = io.BytesIO()
    image.save(out, "JPEG", quality=quality)
    return Image.open(out).convert("RGB")


def _fade(image: Image.Image) -> Image.Image:
    return Image.blend(image, Image.new("RGB", image.size, (120, 120, 120)), 0.85)


def _add_noise(image: Image.Image) -> Image.Image:
    shape = (image.height, image.width, 3)
    noise = np.random.default_rng(0).normal(0, 25 * min(image.size) / _SIDE, shape)
    return Image.fromarray((np.asarray(image) + noise).clip(0, 255).astype(np.uint8))


CHANGES: dict[str, Change] = {
    "night: a seventh of the light (x 0.15)": partial(_scale, by=0.15),
    "dusk: a third of the light (x 0.3)": partial(_scale, by=0.3),
    "half the light (x 0.5)": partial(_scale, by=0.5),
    "overexposed (x 0.6, + 150)": lambda image: image.point(lambda value: min(255, int(value * 0.6 + 150))),
    "haze (15 % of the contrast)": _fade,
    "blur, sigma 3 pixels at 224": partial(_blur, sigma=3.0),
    "blur, sigma 1.5": partial(_blur, sigma=1.5),
    "thumbnail of 48 pixels": partial(_shrink, side=48),
    "thumbnail of 96": partial(_shrink, side=96),
    "grey": _grey,
    "edge drawing": _draw,
    "JPEG of quality 5": partial(_compress, quality=5),
    "JPEG of quality 20": partial(_compress, quality=20),
    "noise, sigma 25 levels at 224": _add_noise,
}


def measure(files: Sequence[Path], *, cache_dir: Path) -> None:
    """Print the table."""
    trunk = prepare_trunk("efficientnet_lite0", size=_SIDE, cache_dir=cache_dir, progress=SilentProgress())
    styled = StyledPreprocess(
        Preprocess(declare_preprocess(_SIDE, mean=trunk.mean, std=trunk.std, filter_=trunk.filter))
    )
    some = files[::_EVERY]
    plain = _measure(styled, files, lambda image: image)
    changed = {name: _measure(styled, some, change) for name, change in CHANGES.items()}
    _print_rates(plain, changed)


def _measure(styled: StyledPreprocess, files: Sequence[Path], change: Change) -> FloatArray:
    def work(file: Path) -> FloatArray:
        picture = decode_picture(file.read_bytes(), name=str(file), limits=DecodeLimits(), min_side=_SIDE)
        return styled.from_image(change(apply_exif_turn(picture)))[1]

    return np.stack(list(map_in_order(work, files, threads=2)))


def _print_rates(plain: FloatArray, changed: dict[str, FloatArray]) -> None:
    n, rng = len(plain), np.random.default_rng(0)
    n_flagged = n_judged = 0
    flags: dict[str, list[float]] = {name: [] for name in changed}
    words: dict[str, Counter[str]] = {name: Counter() for name in changed}
    for _ in range(_SPLITS):
        order = rng.permutation(n)
        held, train = order[: n // 5], order[n // 5 :]
        half = len(held) // 2
        shift: Shift = fit_shift(plain[held], np.arange(half), alpha=_ALPHA, train=plain[train])
        n_flagged += int(shift.is_shifted[half:].sum())
        n_judged += len(held) - half
        rule = ShiftRule({"style": shift.section}, shift.arrays)
        judged = np.flatnonzero(np.isin(np.arange(0, n, _EVERY), held[half:]))
        for name, styles in changed.items():
            told = [rule.judge(styles[at]) for at in judged]
            flags[name].append(float(np.mean([is_shifted for _, is_shifted, _ in told])))
            words[name].update(found[0] for _, _, found in told if found)
    low, high = wilson_interval(round(n_flagged / _SPLITS), round(n_judged / _SPLITS))
    print(f"usual pictures flagged: {100 * n_flagged / n_judged:.2f} % of {n_judged:,} in {_SPLITS} splits; ", end="")
    print(f"alpha {100 * _ALPHA:g} %; 95 % interval of one split's {100 * low:.1f} to {100 * high:.1f} %\n")
    print("| fault | flagged | first word |\n|---|---|---|")
    for name, rates in flags.items():
        most = ", ".join(f"{word} {100 * k / words[name].total():.0f} %" for word, k in words[name].most_common(2))
        print(f"| {name} | {100 * np.mean(rates):.1f} % | {most} |")


if __name__ == "__main__":
    measure(sorted(Path(sys.argv[1]).rglob("*.jpg")), cache_dir=load_settings().cache_dir)
