"""`drivetrain certify`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

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
from drivetrain.cli.shared import JsonFlag, ThreadsOption, open_progress, open_settings, print_json

__all__ = ["run"]


def run(
    model: Annotated[Path, typer.Argument(help="A model, NAME.dt.")],
    labelled: Annotated[Path, typer.Argument(help="Labelled pictures it was not trained on, as for `train`.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="The model to write, NAME.dt; the old one stays.")],
    max_error: MaxErrorOption = None,
    max_defer: MaxDeferOption = None,
    per_class: PerClassFlag = False,
    cost_error: CostErrorOption = None,
    cost_review: CostReviewOption = None,
    ood_alpha: OodAlphaOption = None,
    threads: ThreadsOption = None,
    as_json: JsonFlag = False,
) -> None:
    """Renew a model's promise on new labelled pictures.

    Nothing is trained.
    Its probabilities, what it takes for strange and when it decides by itself are fitted anew; the network stays as it
    is. Options that are not given stay as the model has them.
    """
    from drivetrain.flows.certify import CertifyConfig, certify

    asked = keep_given(
        max_error=max_error,
        max_defer=max_defer,
        per_class=per_class,
        cost_error=cost_error,
        cost_review=cost_review,
        ood_alpha=ood_alpha,
    )
    config = CertifyConfig(model=model, data=labelled, out=out, options=asked)
    result = certify(config, settings=open_settings(threads=threads), progress=open_progress(as_json=as_json))
    if as_json:
        print_json(result.as_json())
        return
    from drivetrain.cli.certify_table import show_certified

    show_certified(result)
