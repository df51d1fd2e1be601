"""The labelled pictures that `certify` is given, and what the model says of them."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from drivetrain.arrays import FloatArray, IntArray
from drivetrain.bundle.archive import Bundle
from drivetrain.data.items import Item, Items, read_items
from drivetrain.data.lineage import digest_items
from drivetrain.data.split import number_groups, order_by_seed
from drivetrain.data.targets import LABEL_COLUMNS
from drivetrain.errors import InvalidInput, UnreadablePicture
from drivetrain.flows.trained_on import TRAINED_ON, mark_trained
from drivetrain.imaging.decode import DecodeLimits
from drivetrain.imaging.fingerprint import fingerprint
from drivetrain.imaging.picture_file import read_picture_file
from drivetrain.imaging.style_measures import StyledPreprocess
from drivetrain.inspect.duplicates import find_duplicates
from drivetrain.progress import Progress
from drivetrain.runtime.parallel import callers_for, map_in_order
from drivetrain.runtime.predictor import Predictor
from drivetrain.runtime.session import Session

__all__ = ["Asked", "ask_model", "read_labelled"]

_MOST_NAMED = 3  # of unreadable pictures
_SEED = 42  # where a bundle says none


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """Readable pictures that the model was not trained on, in an order that says nothing, and its answers."""

    items: tuple[Item, ...]
    digests: tuple[bytes, ...]  # sha256 of each file
    targets: IntArray | FloatArray
    logits: FloatArray  # (n, k)
    frozen: FloatArray  # (n, f)
    groups: IntArray  # (n,)
    styles: FloatArray  # (n, measures)
    unreadable: tuple[tuple[str, str], ...]  # (path, reason)
    notes: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Row:
    item: Item
    sha256: bytes
    fingerprint: FloatArray
    logits: FloatArray
    frozen: FloatArray
    style: FloatArray


def read_labelled(data: Path, predictor: Predictor) -> tuple[Items, list[str]]:
    """The items to certify by, and notes. Raises InvalidInput for another task, or labels the model does not know."""
    everything = read_items(data)
    notes = everything.note_left_out()
    if everything.task != predictor.task:
        column = {task: column for column, task in LABEL_COLUMNS.items()}
        raise InvalidInput(
            "LABELLED",
            got=f"data for {everything.task}",
            want=f"data for {predictor.task}, as {predictor.name} was made for",
            hint=f"That is a column `{column[predictor.task]}` in labels.csv.",
        )
    items = everything.keep([item for item in everything if item.split != "test"])
    if len(items) < len(everything):
        notes.append(
            f"Left alone, because marked test: {len(everything) - len(items):,} pictures. `drivetrain evaluate` reads "
            "them: what certifies must not evaluate."
        )
    if not items.items:
        raise InvalidInput("LABELLED", got=f"{len(everything):,} pictures, all of them marked test", want="others too")
    if predictor.task == "regression":
        if len(items.classes) != len(predictor.classes):
            got, want = (f"{len(of)} for each picture" for of in (items.classes, predictor.classes))
            raise InvalidInput("LABELLED, values", got=got, want=want)
        return items, notes
    unknown = sorted(set(items.classes) - set(predictor.classes))
    if unknown:
        raise InvalidInput(
            "LABELLED",
            got=f"labels the model does not know: {', '.join(map(repr, unknown))}",
            want="labels among " + ", ".join(map(repr, predictor.classes)),
            hint="Leave them out, or train with them.",
        )
    return items, notes


def ask_model(
    items: Items, bundle: Bundle, predictor: Predictor, *, threads: int, limits: DecodeLimits, progress: Progress
) -> Asked:
    """Run the bundle's network on every picture as production does; leave out what it was trained on."""
    session, styled = Session(bundle.members["model.onnx"]), StyledPreprocess(predictor.preprocess)

    def work(item: Item) -> _Row | tuple[str, str]:
        name = str(items.file(item))
        try:
            data = read_picture_file(items.file(item), name=name, limits=limits)
            pixels, style = styled.from_bytes(data, name=name, limits=limits)
        except UnreadablePicture as exc:
            return item.path, exc.reason
        logits, frozen = session.run(["logits", "frozen"], pixels[np.newaxis])
        return _Row(
            item=item,
            sha256=hashlib.sha256(data).digest(),
            fingerprint=fingerprint(pixels),
            logits=logits[0],
            frozen=frozen[0],
            style=style,
        )

    found: list[_Row | tuple[str, str]] = []
    with progress.task("Asking the model", total=len(items)) as advance:
        for row in map_in_order(work, items.items, threads=callers_for(threads)):
            found.append(row)
            advance(1)
    unreadable = (*items.unusable, *(row for row in found if not isinstance(row, _Row)))
    rows = [row for row in found if isinstance(row, _Row)]
    if not rows:
        reasons = "; ".join(f"{path}: {reason}" for path, reason in unreadable[:_MOST_NAMED])
        raise InvalidInput(
            "LABELLED", got=f"{len(unreadable):,} pictures, none of them readable ({reasons})", want="readable pictures"
        )
    kept, notes = _leave_out_trained(rows, bundle)
    if not kept:
        got = f"{len(rows):,} readable pictures, {len(rows):,} of them trained on"
        raise InvalidInput("LABELLED", got=got, want="pictures the model was not trained on")
    return _stack(items, kept, predictor, unreadable, notes)


def _leave_out_trained(rows: Sequence[_Row], bundle: Bundle) -> tuple[list[_Row], list[str]]:
    """The rows that may judge, and what is to be said of the others."""
    digests = [row.sha256 for row in rows]
    is_trained = mark_trained(bundle.arrays, digests)
    notes = []
    if is_trained.any():
        notes.append(
            f"Left out: {int(is_trained.sum()):,} of {len(rows):,} pictures, which the model was trained on. It is "
            "surer of these, and more often right, than of any other."
        )
    made_of = bundle.manifest.lineage.get("data_digest")
    if TRAINED_ON not in bundle.arrays and digest_items((row.item, row.sha256) for row in rows) == made_of:
        notes.append(
            "These are the very pictures the model was made from, and it does not say which of them trained it: the "
            "promise flatters it. Certify by others."
        )
    return [row for row, is_one in zip(rows, is_trained.tolist(), strict=True) if not is_one], notes


def _stack(
    items: Items,
    rows: Sequence[_Row],
    predictor: Predictor,
    unreadable: Sequence[tuple[str, str]],
    notes: list[str],
) -> Asked:
    seed = predictor.manifest.lineage.get("seed")
    by_path = {row.item.path: row for row in rows}
    ordered = [
        by_path[item.path] for item in order_by_seed([row.item for row in rows], seed if type(seed) is int else _SEED)
    ]
    kept = [row.item for row in ordered]
    copies = find_duplicates([row.sha256 for row in ordered], np.stack([row.fingerprint for row in ordered]), None)
    alike = [[kept[at].path for at in group] for group in copies.groups]
    targets = items.targets(kept, classes=predictor.classes)
    if predictor.task != "regression":
        borne = {name for item in kept for name in items.labels_of(item)}
        missing = [name for name in predictor.classes if name not in borne]
        if missing:
            notes.append(f"No picture of {', '.join(map(repr, missing))} to certify by: nothing is known of these.")
    return Asked(
        items=tuple(kept),
        digests=tuple(row.sha256 for row in ordered),
        targets=targets,
        logits=np.stack([row.logits for row in ordered]),
        frozen=np.stack([row.frozen for row in ordered]),
        groups=np.array(number_groups(kept, alike), dtype=np.int64),
        styles=np.stack([row.style for row in ordered]),
        unreadable=tuple(sorted(unreadable)),
        notes=tuple(notes),
    )
