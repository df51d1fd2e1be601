"""Pictures of something else: how many the model notices, and which look least strange to it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from drivetrain.arrays import IntArray
from drivetrain.data.items import picture_files
from drivetrain.errors import InvalidInput, NotFound, UnreadablePicture
from drivetrain.progress import Progress
from drivetrain.runtime.prediction import Answer
from drivetrain.runtime.predictor import Predictor
from drivetrain.trust.detection import Detection, measure_detection
from drivetrain.trust.estimate import Rate

__all__ = ["ForeignResult", "evaluate_foreign", "find_foreign"]

_MOST_MISTAKEN = 24


@dataclass(frozen=True, slots=True, kw_only=True)
class ForeignResult:
    """How the model meets pictures that are not of its kind; rates with 95 % intervals."""

    folder: str
    detection: Detection  # by `ood_score`, against the pictures of DATA
    unknown: Rate  # foreign ones called unknown
    shifted: Rate  # called shifted
    deferred: Rate  # left to a person, for whatever reason
    known_unknown: Rate  # pictures of DATA called unknown: false alarms, where DATA is of the right kind
    scores: tuple[float, ...]  # `ood_score` of each foreign picture
    mistaken: tuple[tuple[str, Answer], ...]  # the least strange first, decided or not, by path below the folder
    unreadable: tuple[tuple[str, str], ...]  # (path, reason)

    def tell_mistaken(self) -> str:
        """How many it took for what it knows, and decided by itself."""
        if n := self.deferred.n - self.deferred.hits:
            return f"Of these {self.deferred.n:,} it decided {n:,} by itself."
        return "It decided none of them by itself: every one was left to a person."

    def as_json(self) -> dict[str, Any]:
        """Plain values for `json.dumps`."""
        return {
            "folder": self.folder,
            **self.detection.as_json(),
            **{
                name: {part: getattr(rate, part) for part in ("hits", "n", "share", "low", "high")}
                for name in ("unknown", "shifted", "deferred", "known_unknown")
                for rate in [getattr(self, name)]
            },
            "scores": list(self.scores),
            "mistaken": [{"path": path, **answer.as_json()} for path, answer in self.mistaken],
            "unreadable": [{"path": path, "reason": reason} for path, reason in self.unreadable],
        }


def find_foreign(folder: Path, data: Path) -> list[Path]:
    """The pictures below `folder`. Raises where there are none, or where they are those of DATA."""
    if not folder.is_dir():
        raise NotFound("--ood", got=str(folder), want="a folder of pictures of something else")
    files = picture_files(folder)
    if not files:
        raise NotFound("--ood", got=f"{folder}, a folder without a picture", want="one picture at least")
    of_data = {file.resolve() for file in picture_files(data)}
    if shared := sum(file.resolve() in of_data for file in files):
        got = f"{folder}, {shared:,} of whose pictures are those of DATA"
        raise InvalidInput("--ood", got=got, want="a folder of pictures of something else")
    return files


def evaluate_foreign(
    predictor: Predictor,
    folder: Path,
    files: Sequence[Path],
    known: Sequence[Answer],
    *,
    known_groups: IntArray | None = None,
    progress: Progress,
) -> ForeignResult:
    """Predict `files` below `folder` and hold their scores against those of the answers to known pictures (n).

    known_groups (n,) say which of the known belong together.
    """
    told: list[tuple[str, Answer]] = []
    unreadable: list[tuple[str, str]] = []
    with progress.task("Predicting what is foreign", total=len(files)) as advance:
        for file, answer in zip(files, predictor.predict_many(files), strict=True):
            path = file.relative_to(folder).as_posix()
            if isinstance(answer, UnreadablePicture):
                unreadable.append((path, answer.reason))
            else:
                told.append((path, answer))
            advance(1)
    if not told:
        raise InvalidInput("--ood", got=f"{len(files)} pictures, none of which can be read", want="one at least")
    answers = [answer for _, answer in told]
    known_scores, foreign_scores = (np.array([one.ood_score for one in of]) for of in (known, answers))
    return ForeignResult(
        folder=str(folder),
        detection=measure_detection(known_scores, foreign_scores, known_groups=known_groups),
        unknown=_rate(answers, "unknown"),
        shifted=_rate(answers, "shifted"),
        deferred=Rate.of(np.array([answer.decision == "defer" for answer in answers])),
        known_unknown=_rate(known, "unknown", known_groups),
        scores=tuple(foreign_scores.tolist()),
        mistaken=tuple(told[at] for at in np.argsort(foreign_scores, kind="stable")[:_MOST_MISTAKEN].tolist()),
        unreadable=tuple(unreadable),
    )


def _rate(answers: Sequence[Answer], reason: str, groups: IntArray | None = None) -> Rate:
    return Rate.of(np.array([reason in answer.reasons for answer in answers]), groups)
