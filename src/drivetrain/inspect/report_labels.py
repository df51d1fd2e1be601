"""What the report's template draws of a model of several labels a picture."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from drivetrain.trust.label_evaluation import LabelEvaluation, MultiLabelEvaluation

from .interpretation import LabelInterpretation, TopLoss

__all__ = ["Shelf", "view_labels"]

_TOP_LOSSES = 24
_SHOWN = 8  # pictures of a label that were missed, and as many that were wrongly seen

ImageOf = Callable[[str], str]  # path -> data URI, or ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Shelf:
    """Pictures of one label that it got wrong in one way; (path, data URI, probability of the label)."""

    label: str
    title: str
    pictures: tuple[tuple[str, str, float], ...]
    n_all: int


def view_labels(
    evaluation: MultiLabelEvaluation, interpretation: LabelInterpretation, image_of: ImageOf
) -> dict[str, Any]:
    """All that the template needs beside the report itself."""
    hardest = sorted(evaluation.per_label, key=lambda row: (row.f1 is None, row.f1 or 0.0))
    shelves = [
        shelf
        for row in hardest
        for missed in (True, False)
        if (shelf := _shelf(row, evaluation, interpretation, image_of, missed=missed)).pictures
    ]
    return {
        "hardest_first": hardest,
        "shelves": shelves,
        "top_losses": [_card(picture, image_of) for picture in interpretation.top_losses(_TOP_LOSSES)],
        "has_images": any(image for shelf in shelves for _, image, _ in shelf.pictures),
    }


def _shelf(
    row: LabelEvaluation,
    evaluation: MultiLabelEvaluation,
    interpretation: LabelInterpretation,
    image_of: ImageOf,
    *,
    missed: bool,
) -> Shelf:
    at = evaluation.classes.index(row.label)
    wrong = interpretation.find_wrong(at, missed=missed, k=len(interpretation.paths))
    shown = sorted(((path, image_of(path), p) for path, p in wrong), key=lambda one: not one[1])[:_SHOWN]
    what = f"missed on {len(wrong)} of {row.n}" if missed else f"seen wrongly on {len(wrong)} of {row.n_predicted}"
    return Shelf(label=row.label, title=what, pictures=tuple(shown), n_all=len(wrong))


def _card(picture: TopLoss, image_of: ImageOf) -> dict[str, Any]:
    return {"picture": picture, "image": image_of(picture.path)}
