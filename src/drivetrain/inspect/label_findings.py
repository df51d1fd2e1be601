"""What is wrong with data whose pictures bear any number of labels: too few, missing, on all, contradictory."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

from drivetrain.data.items import Item
from drivetrain.data.targets import split_labels
from drivetrain.inspect.duplicates import Duplicates

from .findings import Finding, Picture, Severity, count_of, join_names, share_of

__all__ = ["FLAT", "count_names", "explode", "find_contradictions", "find_label_faults", "flatten"]

FLAT = "all pictures"  # the one class of pictures that have none
_LEAST = 5  # pictures with a label, and without it, that `train` asks for
_FEW, _ENOUGH = 20, 50
_SKEWED, _LOPSIDED = 10, 50  # the commonest label over the rarest
_SHOWN = 40

NamesOf = Callable[[Item], Sequence[str]]


def flatten(pictures: Sequence[Picture]) -> list[Picture]:
    """The same pictures as if all were of one class, for what only looks at pictures."""
    return [replace(picture, item=replace(picture.item, label=FLAT)) for picture in pictures]


def explode(pictures: Sequence[Picture], names_of: NamesOf) -> list[Picture]:
    """Each picture once for each of its names, as if that were its class."""
    return [
        replace(picture, item=replace(picture.item, label=name))
        for picture in pictures
        for name in names_of(picture.item)
    ]


def count_names(pictures: Sequence[Picture], names: Sequence[str], names_of: NamesOf) -> dict[str, dict[str, int]]:
    """part -> name -> pictures, parts in the order train, valid, test; the part is "all" where there is no split."""
    counts: dict[str, Counter[str]] = {}
    for picture in pictures:
        counts.setdefault(picture.item.split or "all", Counter()).update(names_of(picture.item))
    order = [part for part in ("train", "all", "valid", "test") if part in counts]
    return {part: {name: counts[part][name] for name in names} for part in order}


def find_label_faults(pictures: Sequence[Picture], counts: Mapping[str, Mapping[str, int]]) -> list[Finding]:
    """Balance, label by label; counts are those of `count_names`."""
    learned = [picture for picture in pictures if picture.item.split != "test"]
    n_of = Counter(name for picture in learned for name in _labels(picture))
    if not n_of:
        return [
            Finding(
                code="one_class",
                severity="error",
                what="No readable picture bears a label." if pictures else "No picture is readable.",
                why="A model learns what tells pictures with a label from those without: it takes both.",
                next_step="Write labels into the column `labels`, several separated by ';'.",
                count=len(pictures),
            )
        ]
    found = [
        *_find_missing(counts),
        _find_few(n_of),
        _find_on_all(n_of, len(learned)),
        _find_imbalance(n_of),
        _find_bare(pictures),
    ]
    return [one for one in found if one is not None]


def find_contradictions(
    pictures: Sequence[Picture],
    duplicates: Duplicates | None,
    *,
    differ: Callable[[Item, Item], bool],
    words: str,
    kind: str,
) -> list[Finding]:
    """Copies of one picture that bear different `words` ("labels", "values"); `kind` ends the finding's code."""
    by_digest: dict[bytes, list[Picture]] = {}
    for picture in pictures:
        by_digest.setdefault(picture.digest, []).append(picture)
    groups = [of for of in by_digest.values() if any(differ(of[0].item, one.item) for one in of[1:])]
    found = []
    if groups:
        n = sum(map(len, groups))
        found.append(
            Finding(
                code=f"two_{kind}",
                severity="error",
                what=f"{count_of(n, 'file')} of {count_of(len(groups), 'picture')} bear different {words}.",
                why="The same bytes cannot be both: whatever the model answers counts as wrong.",
                next_step="Decide what is right and take the others away. `--quarantine` leaves all of them out.",
                count=n,
                groups=tuple(tuple(one.item.path for one in of) for of in groups),
                details=tuple(
                    " and ".join(f"{one.item.path}: {one.item.label or 'none'}" for one in of) for of in groups
                ),
                quarantine=tuple((one.item.path, f"the same file bears other {words}") for of in groups for one in of),
            )
        )
    pairs = [] if duplicates is None else duplicates.pairs
    near = [
        (pictures[pair.first], pictures[pair.second])
        for pair in pairs
        if differ(pictures[pair.first].item, pictures[pair.second].item)
    ]
    if near:
        found.append(
            Finding(
                code=f"near_two_{kind}",
                severity="warning",
                what=f"{count_of(len(near), 'pair')} of pictures, all but alike, bear different {words}.",
                why="Resized, cropped or saved anew, it is the same picture: one of the two is probably wrong.",
                next_step="Look at each pair and mend what is wrong. Nothing is left out by itself.",
                count=len(near),
                groups=tuple((one.item.path, other.item.path) for one, other in near),
                details=tuple(
                    f"{one.item.path}: {one.item.label or 'none'} and {other.item.path}: {other.item.label or 'none'}"
                    for one, other in near[:_SHOWN]
                ),
            )
        )
    return found


def _labels(picture: Picture) -> tuple[str, ...]:
    return split_labels(picture.item.label, task="multilabel")


def _find_missing(counts: Mapping[str, Mapping[str, int]]) -> list[Finding]:
    learned = [part for part in counts if part in {"train", "all"}]
    if len(counts) < 2 or not learned:
        return []
    names = list(counts[learned[0]])
    unlearned = [name for name in names if not any(counts[part][name] for part in learned)]
    found = []
    if unlearned:
        found.append(
            Finding(
                code="class_not_trained",
                severity="error",
                what=f"{count_of(len(unlearned), 'label')} on no picture to train on: {join_names(unlearned)}.",
                why="The model will never find them.",
                next_step="Put pictures with them into train, or take the labels out of valid and test.",
                count=len(unlearned),
            )
        )
    for part in (part for part in counts if part in {"valid", "test"}):
        untested = [name for name in names if not counts[part][name] and name not in unlearned]
        if untested:
            found.append(
                Finding(
                    code=f"class_not_in_{part}",
                    severity="warning",
                    what=f"{count_of(len(untested), 'label')} on no picture in {part}: {join_names(untested)}.",
                    why="Nothing is known of how well they are found.",
                    next_step=f"Move some pictures with them to {part}.",
                    count=len(untested),
                )
            )
    return found


def _find_few(n_of: Counter[str]) -> Finding | None:
    few = sorted((name for name, n in n_of.items() if n < _ENOUGH), key=lambda name: (n_of[name], name))
    if not few:
        return None
    least = n_of[few[0]]
    severity: Severity = "error" if least < _LEAST else "warning" if least < _FEW else "note"
    return Finding(
        code="few_pictures",
        severity=severity,
        what=f"{count_of(len(few), 'label is', 'labels are')} on fewer than {_ENOUGH} pictures to learn from; the "
        f"rarest, {few[0]!r}, on {least}.",
        why=f"Below {_LEAST} `train` refuses; below {_ENOUGH} what is measured of a label is rough, and no promise of "
        "finding it can be made.",
        next_step="Gather more pictures with these, or take the labels out.",
        count=len(few),
        details=tuple(f"{name}: {n_of[name]}" for name in few),
    )


def _find_on_all(n_of: Counter[str], n_all: int) -> Finding | None:
    rife = sorted(name for name, n in n_of.items() if n_all - n < _LEAST)
    if not rife:
        return None
    return Finding(
        code="label_on_all",
        severity="error",
        what=f"{count_of(len(rife), 'label is', 'labels are')} on all pictures, or all but a few: {join_names(rife)}.",
        why="There is nothing to tell by where it is missing; `train` refuses.",
        next_step=f"Add {_LEAST} pictures at least without it, better 50, or take the label out.",
        count=len(rife),
        details=tuple(f"{name}: missing on {n_all - n_of[name]} of {n_all}" for name in rife),
    )


def _find_imbalance(n_of: Counter[str]) -> Finding | None:
    ranked = n_of.most_common()
    (most, n_most), (least, n_least) = ranked[0], ranked[-1]
    ratio = n_most / n_least
    if ratio < _SKEWED:
        return None
    return Finding(
        code="imbalance",
        severity="warning" if ratio >= _LOPSIDED else "note",
        what=f"The commonest label, {most!r}, is on {ratio:.0f} times the pictures of the rarest, {least!r} "
        f"({n_most:,} and {n_least:,}).",
        why="A mean over labels counts the rare ones as much, and rests on few pictures there.",
        next_step="Gather more of the rare ones, and read precision and recall of each label.",
        count=len(ranked),
        details=tuple(f"{name}: {n:,}" for name, n in ranked),
    )


def _find_bare(pictures: Sequence[Picture]) -> Finding | None:
    bare = [picture.item.path for picture in pictures if not _labels(picture)]
    if not bare:
        return None
    return Finding(
        code="no_label",
        severity="note",
        what=f"{count_of(len(bare), 'picture bears', 'pictures bear')} no label, "
        f"{share_of(len(bare), len(pictures))} of {len(pictures):,}.",
        why="They teach what none of the labels looks like. If nobody has labelled them yet, they teach wrongly.",
        next_step="Look whether they are truly without; take out what was not labelled.",
        count=len(bare),
        groups=tuple((path,) for path in bare),
    )
