"""`drivetrain train`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, cast

import typer

from drivetrain.cli.policy import (
    CostErrorOption,
    CostReviewOption,
    MaxDeferOption,
    MaxErrorOption,
    OodAlphaOption,
    PerClassFlag,
    keep_given,
)
from drivetrain.cli.shared import CacheDirOption, JsonFlag, ThreadsOption, open_progress, open_settings, print_json

__all__ = ["run"]


def run(
    data: Annotated[Path, typer.Argument(help="A folder with a folder per class, or with labels.csv.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="The model to write, NAME.dt; report.html goes beside it.")],
    name: Annotated[
        str | None,
        typer.Option(help="What the model is called; default: as the file. A new version bears the name of the old."),
    ] = None,
    method: Annotated[
        str,
        typer.Option(
            help="head: a linear head on the frozen backbone. top: its last pieces too. full: all of it, for a GPU. "
            "auto: tries on parts of the training pictures whether more than the head pays, and says so."
        ),
    ] = "auto",
    backbone: Annotated[
        str, typer.Option(help="efficientnet_lite0, _lite1 or _lite2; timm:NAME or hf:REPO where installed.")
    ] = "efficientnet_lite0",
    size: Annotated[int | None, typer.Option(help="Pixels a side; default: the backbone's own.")] = None,
    resize: Annotated[str, typer.Option(help="crop, pad or squish the picture into a square.")] = "crop",
    valid: Annotated[float, typer.Option(help="Share of each class held out; a split in DATA goes first.")] = 0.2,
    seed: Annotated[int, typer.Option(help="The same seed gives the same model, bit for bit.")] = 42,
    max_error: MaxErrorOption = None,
    max_defer: MaxDeferOption = None,
    per_class: PerClassFlag = False,
    cost_error: CostErrorOption = None,
    cost_review: CostReviewOption = None,
    ood_alpha: OodAlphaOption = None,
    views: Annotated[int | None, typer.Option(help="Augmented views a picture, for head and top; kept.")] = None,
    epochs: Annotated[int | None, typer.Option(help="Of top or full; default: as the method has it.")] = None,
    batch: Annotated[int | None, typer.Option(help="Pictures a step, of top or full.")] = None,
    lr: Annotated[float | None, typer.Option(help="Highest learning rate, of top or full.")] = None,
    class_weights: Annotated[str | None, typer.Option(help="balanced: rare classes count as much as common.")] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on where a killed run of the same was.")] = False,
    learning_curve: Annotated[
        bool, typer.Option("--learning-curve", help="Also tell what twice the pictures would likely bring.")
    ] = False,
    fixtures: Annotated[
        str, typer.Option(help="Pictures inside the model that prove it: validation, or synthetic to pass none on.")
    ] = "validation",
    threads: ThreadsOption = None,
    cache_dir: CacheDirOption = None,
    as_json: JsonFlag = False,
) -> None:
    """Make a model, NAME.dt, from a folder of pictures.

    A report of what it learned and what it gets wrong, report.html, is written beside it.
    """
    from drivetrain.flows.fixtures import FixtureSource
    from drivetrain.flows.train import TrainConfig, train
    from drivetrain.imaging.preprocess import Fit

    config = TrainConfig(
        data=data,
        out=out,
        name=name,
        method=method,
        backbone=backbone,
        size=size,
        resize=cast(Fit, resize),
        valid_share=valid,
        seed=seed,
        fixtures=cast(FixtureSource, fixtures),
        views=views,
        epochs=epochs,
        batch=batch,
        lr=lr,
        class_weights=class_weights,
        resume=resume,
        learning_curve=learning_curve,
        **keep_given(
            max_error=max_error,
            max_defer=max_defer,
            per_class=per_class,
            cost_error=cost_error,
            cost_review=cost_review,
            ood_alpha=ood_alpha,
        ),
    )
    result = train(
        config, settings=open_settings(threads=threads, cache_dir=cache_dir), progress=open_progress(as_json=as_json)
    )
    if as_json:
        print_json(result.as_json())
        return
    from drivetrain.cli.tables import show_training

    show_training(result)
