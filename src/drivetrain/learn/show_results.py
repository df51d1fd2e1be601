"""Pictures, what they are, and what the model says."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import Tensor

from drivetrain.errors import InvalidConfig, MissingExtra

from .answers import answer
from .datasets import Dataset
from .targets import decode_answers, to_answers

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from .data_loader import DataLoader
    from .learner_state import LearnerState

__all__ = ["draw_results"]


def draw_results(
    learn: LearnerState,
    dl: DataLoader,
    *,
    max_n: int = 9,
    nrows: int | None = None,
    ncols: int | None = None,
    figsize: tuple[float, float] | None = None,
) -> Figure:
    """The first `max_n` pictures of `dl`, above each its label (if there are labels) and the model's answer.

    A wrong answer is red. Raises MissingExtra without matplotlib.
    """
    try:
        from .show import draw_batch
    except ModuleNotFoundError as exc:
        raise MissingExtra("show_results", package=exc.name or "matplotlib", extra="train") from None
    if max_n < 1:
        raise InvalidConfig("show_results(max_n)", got=max_n, want="a whole number of at least 1")
    if nrows is not None and ncols is not None:
        max_n = min(max_n, max(1, nrows * ncols))
    whole = dl.dataset
    readable = [item for at, item in enumerate(whole.items) if at not in dl.left_out]
    few = dl.new(Dataset(readable[:max_n], whole.columns, n_inp=whole.n_inp, limits=whole.limits), bs=max_n)
    answers = answer(learn, few, with_inputs=True)
    assert answers.inputs is not None
    said = decode_answers(to_answers(answers.outputs, learn.task), learn.task)
    titles, wrong = [], []
    for row in range(len(said)):
        told = _tell(learn, said[row])
        if answers.targets is None:
            titles.append(told)
            continue
        true = answers.targets[row]
        titles.append(f"{_tell(learn, true)}\n{told}")
        wrong.append(learn.task != "regression" and bool((said[row].int() != true.int()).any()))
    figure = draw_batch(few.decode_pictures(answers.inputs), titles, nrows=nrows, ncols=ncols, figsize=figsize)
    for axis, is_wrong in zip(figure.axes, wrong, strict=False):
        if is_wrong:
            axis.title.set_color("crimson")
    return figure


def _tell(learn: LearnerState, decoded: Tensor) -> str:
    dataset = learn.dls.train_ds
    return dataset.decode([decoded.cpu().numpy()]) or "none"
