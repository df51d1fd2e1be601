"""Whether mirroring a picture would make its label wrong: by the classes' names, and by what the trunk sees."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from drivetrain.arrays import BoolArray, FloatArray, IntArray
from drivetrain.data.items import Item

from .findings import Finding, Severity, count_of, join_names, share_of

__all__ = ["MirrorSample", "find_mirror_faults"]

_SIDES = (
    ("left", "right"), ("l", "r"), ("east", "west"), ("clockwise", "anticlockwise"), ("clockwise", "counterclockwise"),
    ("port", "starboard"), ("forward", "backward"),
    # German, French, Spanish, Portuguese, Italian, Dutch, Polish, Russian, Chinese and Japanese
    ("links", "rechts"), ("linke", "rechte"), ("linker", "rechter"), ("gauche", "droite"), ("gauche", "droit"),
    ("izquierda", "derecha"), ("izquierdo", "derecho"), ("esquerda", "direita"), ("esquerdo", "direito"),
    ("sinistra", "destra"), ("sinistro", "destro"), ("lewo", "prawo"), ("lewy", "prawy"), ("lewa", "prawa"),
    ("лево", "право"), ("левый", "правый"), ("левая", "правая"), ("влево", "вправо"), ("налево", "направо"),
    ("左", "右"),
)  # fmt: skip
_HEIGHTS = (("up", "down"), ("top", "bottom"), ("north", "south"), ("above", "below"), ("rising", "falling"))
_TURNED = (("b", "d"), ("p", "q"), ("6", "9"), ("2", "5"), ("s", "z"), ("n", "u"), ("m", "w"))
_DIGITS = frozenset({*"0123456789", "zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"})
_SIGNS = frozenset(
    {"arrow", "arrows", "clock", "clocks", "text", "letter", "letters", "digit", "digits", "handwriting"}
)
_ALPHA = 0.001  # chance of a false alarm
_DROP = 0.15  # of the pictures, so many more must come out wrong once mirrored
_FEWEST = 10  # pictures that are worth a test
_PER_CLASS = 0.4  # of a class's pictures that turn, to name it
_NEXT = "Train with `aug_transforms(do_flip=False)`."


@dataclass(frozen=True, slots=True, kw_only=True)
class MirrorSample:
    """A few pictures of each class, and what `runtime.mirror` says of them; n of each."""

    paths: Sequence[str]
    labels: Sequence[str]
    clusters: IntArray  # (n,) copies of one picture share one
    originals: FloatArray  # (n, d)
    mirrored: FloatArray  # (n, d) of the mirror images


def find_mirror_faults(
    labels: Sequence[str], sample: MirrorSample | None, *, pairs: Sequence[tuple[Item, Item]]
) -> list[Finding]:
    """What speaks against mirroring pictures at random, the default of augmentation.

    labels are all classes; without a sample only their names are looked at. pairs are copies in two classes that are
    alike only when one is mirrored.
    """
    seen = None if sample is None else _test_sample(sample)
    found = [seen, _find_pairs(pairs), *_find_names(labels)]
    return [one for one in found if one is not None]


def _test_sample(sample: MirrorSample) -> Finding | None:
    """Of each picture, and of its mirror image, the class of the nearest other picture."""
    names = np.array(sample.labels)
    if len(names) < _FEWEST or len(set(sample.labels)) < 2:
        return None
    clusters = sample.clusters
    is_copy = clusters[:, None] == clusters[None, :]  # the picture itself, and its copies, are no judges
    nearest = _nearest(sample.originals, sample.originals, is_copy)
    turned = _nearest(sample.mirrored, sample.originals, is_copy)
    was_right: BoolArray = names[nearest] == names
    is_right: BoolArray = names[turned] == names
    lost, gained = int((was_right & ~is_right).sum()), int((~was_right & is_right).sum())
    drop = float(was_right.mean() - is_right.mean())
    if drop < _DROP or _sign_test(lost, lost + gained) > _ALPHA:
        return None
    turns = Counter(
        (str(names[row]), str(names[turned[row]])) for row in np.flatnonzero(was_right & ~is_right).tolist()
    )
    sizes = Counter(sample.labels)
    per_class = {label: sum(n for (one, _), n in turns.items() if one == label) for label in sizes}
    details = [
        f"{one}, mirrored, looks like {other}: {n} of {sizes[one]}"
        for (one, other), n in turns.most_common()
        if per_class[one] >= _PER_CLASS * sizes[one]
    ]
    return Finding(
        code="mirror_features",
        severity="warning",
        what=f"Mirrored, {share_of(lost, len(names))} of {count_of(len(names), 'picture')} look like another class: "
        "flips may be wrong here.",
        why=f"Nearest to the pictures themselves stood one of their class in {int(was_right.sum())} cases, nearest to "
        f"their mirror images in {int(is_right.sum())}.",
        next_step=_NEXT,
        count=lost,
        groups=tuple((sample.paths[row],) for row in np.flatnonzero(was_right & ~is_right).tolist()),
        details=tuple(details[:20]),
    )


def _nearest(asking: FloatArray, others: FloatArray, is_copy: BoolArray) -> IntArray:
    """(n,) row of `others` most alike by cosine, after the root that the head uses too, and no copy."""
    rooted = [np.sign(table) * np.sqrt(np.abs(table)) for table in (asking, others)]
    middle = rooted[1].mean(axis=0)
    unit = [table - middle for table in rooted]
    unit = [table / np.maximum(np.linalg.norm(table, axis=1, keepdims=True), 1e-9) for table in unit]
    alike = np.where(is_copy, -2.0, unit[0] @ unit[1].T)
    out: IntArray = alike.argmax(axis=1)
    return out


def _sign_test(wins: int, n: int) -> float:
    from scipy.stats import binomtest  # late: 0.4 s

    return float(binomtest(wins, n, alternative="greater").pvalue) if n else 1.0


def _find_pairs(pairs: Sequence[tuple[Item, Item]]) -> Finding | None:
    if not pairs:
        return None
    counts = Counter(tuple(sorted((one.label, other.label))) for one, other in pairs)
    return Finding(
        code="mirror_copies",
        severity="warning",
        what=f"{count_of(len(pairs), 'pair')} of pictures of two classes are mirror images of each other.",
        why="Flipped at random, such a picture is shown with the wrong label half of the time.",
        next_step=f"{_NEXT} If they are the same thing, one label is wrong.",
        count=len(pairs),
        groups=tuple((one.path, other.path) for one, other in pairs),
        details=tuple(f"{' and '.join(pair)}: {n}" for pair, n in counts.most_common()),
    )


def _find_names(labels: Sequence[str]) -> list[Finding]:
    """What the names of the classes say."""
    found = []
    severity: Severity = "warning"
    pairs = _paired(labels, _SIDES)
    if pairs:
        shown = "; ".join(join_names(pair) for pair in pairs[:4])
        found.append(_named(f"Classes named after sides: {shown}.", len(pairs) * 2, severity, _NEXT))
    is_numbered = any(len(label.strip()) > 1 and label.strip().isdecimal() for label in labels)  # "1" to "102": ids
    digits = [] if is_numbered else [label for label in labels if label.strip().lower() in _DIGITS]
    letters = [label for label in labels if len(label.strip()) == 1 and label.strip().isalpha()]
    for what, named in (("digits", digits), ("letters", letters)):
        if len(named) > 1:
            twins = [pair for pair in _TURNED if set(pair) <= {label.strip().lower() for label in named}]
            more = f" Mirrored or turned, {join_names(twins[0])} are one." if twins else ""
            told = f"{len(named)} classes named like {what}: {join_names(named)}.{more}"
            # "0" and "1" may stand for no and yes
            found.append(_named(told, len(named), severity if twins or len(named) > 2 else "note", _NEXT))
    heights = _paired(labels, _HEIGHTS)
    if heights:
        shown = "; ".join(join_names(pair) for pair in heights[:4])
        what = f"Classes named after above and below: {shown}."
        found.append(_named(what, len(heights) * 2, "note", "Leave `flip_vert=False`, and keep `max_rotate` small."))
    signs = [label for label in labels if set(_words(label)) & _SIGNS]
    if signs and not found:
        found.append(_named(f"Classes that read from one side: {join_names(signs)}.", len(signs), "note", _NEXT))
    return found


def _named(what: str, count: int, severity: Severity, next_step: str) -> Finding:
    return Finding(
        code="mirror_names",
        severity=severity,
        what=what,
        why="A mirrored picture of these is not one of its class any more, and flips are on by default.",
        next_step=next_step,
        count=count,
    )


def _paired(labels: Sequence[str], twins: Sequence[tuple[str, str]]) -> list[tuple[str, str]]:
    """Pairs of labels that differ in one word, and there by a pair of `twins`."""
    by_words = {_words(label): label for label in labels}
    pairs = []
    for words, label in by_words.items():
        for one, other in twins:
            swapped = tuple(other if word == one else word for word in words)
            if swapped != words and swapped in by_words and (label, by_words[swapped]) not in pairs:
                pairs.append((label, by_words[swapped]))
    return pairs


def _words(label: str) -> tuple[str, ...]:
    """ "turnLeft_2" and "TURN_LEFT 2" -> ("turn", "left", "2")."""
    apart = re.sub(r"(?<=[^\W\d_A-Z])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][^\W\d_A-Z])", " ", label)
    return tuple(word.lower() for word in re.findall(r"[^\W\d_]+|\d+", apart))
