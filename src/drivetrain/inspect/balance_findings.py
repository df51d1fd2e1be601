"""How many pictures each class has, in each part of the split, and which have an odd size or shape."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence

import numpy as np

from drivetrain.arrays import FloatArray

from .findings import Finding, Picture, Severity, count_of, join_names

__all__ = ["count_classes", "find_balance_faults", "find_odd_sizes"]

_LEAST = 5  # pictures a class that `train` asks for
_FEW, _ENOUGH = 20, 50
_SKEWED, _LOPSIDED = 3, 10  # the largest class over the smallest
_TOO_FAR = 4.5  # robust standard deviations
_SIZE_FACTOR, _SHAPE_FACTOR = 3.0, 2.0  # an odd one is as many times the median too: on even data deviations are tiny
_SHOWN = 40  # odd pictures named


def count_classes(pictures: Sequence[Picture]) -> dict[str, dict[str, int]]:
    """part -> class -> pictures, parts in the order train, valid, test; the part is "all" where there is no split."""
    counts: dict[str, Counter[str]] = {}
    for picture in pictures:
        counts.setdefault(picture.item.split or "all", Counter())[picture.item.label] += 1
    labels = sorted({picture.item.label for picture in pictures})
    order = [part for part in ("train", "all", "valid", "test") if part in counts]
    return {part: {label: counts[part][label] for label in labels} for part in order}


def find_balance_faults(pictures: Sequence[Picture]) -> list[Finding]:
    """Too few, too unlike in number, missing in a part of the split."""
    counts = count_classes(pictures)
    learned = Counter(picture.item.label for picture in pictures if picture.item.split != "test")
    labels = sorted({picture.item.label for picture in pictures})
    if len(labels) < 2:
        return [_one_class(labels)]
    found = [
        *_find_missing(counts, labels),
        _find_few(learned, [label for label in labels if learned[label]]),
        _find_imbalance(learned),
    ]
    return [one for one in found if one is not None]


def _one_class(labels: Sequence[str]) -> Finding:
    return Finding(
        code="one_class",
        severity="error",
        what=f"All readable pictures are of one class, {join_names(labels)}." if labels else "No picture is readable.",
        why="A model learns to tell classes apart: it takes two.",
        next_step="Add pictures of what it should be told from.",
        count=len(labels),
    )


def _find_missing(counts: dict[str, dict[str, int]], labels: Sequence[str]) -> list[Finding]:
    found = []
    learned = [part for part in counts if part in {"train", "all"}]
    if len(counts) > 1 and learned:
        unlearned = [label for label in labels if not any(counts[part][label] for part in learned)]
        if unlearned:
            found.append(
                Finding(
                    code="class_not_trained",
                    severity="error",
                    what=f"{count_of(len(unlearned), 'class', 'classes')} without a picture to train on: "
                    f"{join_names(unlearned)}.",
                    why="The model will never answer with them, and each of their pictures counts as wrong.",
                    next_step="Put pictures of them into train, or take them out of valid and test.",
                    count=len(unlearned),
                )
            )
        for part in (part for part in counts if part in {"valid", "test"}):
            untested = [label for label in labels if not counts[part][label] and label not in unlearned]
            if untested:
                found.append(
                    Finding(
                        code=f"class_not_in_{part}",
                        severity="warning",
                        what=f"{count_of(len(untested), 'class', 'classes')} without a picture in {part}: "
                        f"{join_names(untested)}.",
                        why="Nothing is known of how well they are told apart.",
                        next_step=f"Move some of their pictures to {part}.",
                        count=len(untested),
                    )
                )
    return found


def _find_few(learned: Counter[str], labels: Sequence[str]) -> Finding | None:
    few = sorted((label for label in labels if learned[label] < _ENOUGH), key=lambda label: (learned[label], label))
    if not few:
        return None
    least = learned[few[0]]
    severity: Severity = "error" if least < _LEAST else "warning" if least < _FEW else "note"
    return Finding(
        code="few_pictures",
        severity=severity,
        what=f"{count_of(len(few), 'class has', 'classes have')} fewer than {_ENOUGH} pictures to learn from; the "
        f"smallest, {few[0]!r}, has {least}.",
        why=f"Below {_LEAST} `train` refuses; below {_ENOUGH} what is measured of a class is rough.",
        next_step="Gather more of these: `drivetrain gather`, or ask whoever has them.",
        count=len(few),
        details=tuple(f"{label}: {learned[label]}" for label in few),
    )


def _find_imbalance(learned: Counter[str]) -> Finding | None:
    ranked = learned.most_common()
    (most, n_most), (least, n_least) = ranked[0], ranked[-1]
    ratio = n_most / n_least
    if ratio < _SKEWED:
        return None
    return Finding(
        code="imbalance",
        severity="warning" if ratio >= _LOPSIDED else "note",
        what=f"The largest class, {most!r}, has {ratio:.1f} times the pictures of the smallest, {least!r} "
        f"({n_most:,} and {n_least:,}).",
        why="In doubt the model names the larger class, and accuracy hides how badly the smaller is found.",
        next_step="Gather more of the small ones, and read balanced accuracy and the recall of each class.",
        count=len(ranked),
        details=tuple(f"{label}: {n:,}" for label, n in ranked),
    )


def find_odd_sizes(pictures: Sequence[Picture]) -> list[Finding]:
    """Pictures far larger or smaller, or far longer, than the others."""
    found = [
        _find_odd(
            pictures,
            code="odd_size",
            measure=lambda picture: picture.facts.style.width * picture.facts.style.height,
            factor=_SIZE_FACTOR**2,
            show=lambda picture: f"{picture.facts.style.width:,} x {picture.facts.style.height:,} pixels",
            what="far from the usual size",
            why="A thumbnail among photographs, or a scan of another kind: it will look like nothing else.",
        ),
        _find_odd(
            pictures,
            code="odd_shape",
            measure=_elongation,
            factor=_SHAPE_FACTOR,
            show=lambda picture: f"{picture.facts.style.width:,} x {picture.facts.style.height:,} pixels",
            what="far longer or wider than the others",
            why="Cropped to a square they lose what they show, squeezed they are distorted; many are banners.",
        ),
    ]
    return [one for one in found if one is not None]


def _elongation(picture: Picture) -> float:
    width, height = picture.facts.style.width, picture.facts.style.height
    return max(width, height) / min(width, height)


def _find_odd(
    pictures: Sequence[Picture],
    *,
    code: str,
    measure: Callable[[Picture], float],
    factor: float,
    show: Callable[[Picture], str],
    what: str,
    why: str,
) -> Finding | None:
    if len(pictures) < 2:
        return None
    values: FloatArray = np.log([measure(picture) for picture in pictures])
    middle = float(np.median(values))
    spread = 1.4826 * float(np.median(np.abs(values - middle)))
    far = np.abs(values - middle)
    odd = np.flatnonzero((far > _TOO_FAR * spread) & (far > np.log(factor)))
    if not 0 < len(odd) <= 0.1 * len(pictures):  # a tenth is no outlier but a second kind of picture
        return None
    ranked = [pictures[row] for row in odd[np.argsort(-far[odd], kind="stable")]]
    return Finding(
        code=code,
        severity="note",
        what=f"{count_of(len(ranked), 'picture is', 'pictures are')} {what}.",
        why=why,
        next_step="Look at them; leave out what does not belong.",
        count=len(ranked),
        groups=tuple((picture.item.path,) for picture in ranked),
        details=tuple(f"{picture.item.path}: {show(picture)}" for picture in ranked[:_SHOWN]),
    )
