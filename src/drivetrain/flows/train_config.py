"""What a run is told, checked before anything is read."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from drivetrain.data.split import check_valid_share
from drivetrain.errors import InvalidConfig
from drivetrain.flows.fitting import FitOptions
from drivetrain.flows.fixtures import FixtureSource
from drivetrain.flows.policy_options import PolicyOptions
from drivetrain.imaging.preprocess import Fit

__all__ = ["METHODS", "TrainConfig"]

METHODS = ("auto", "head", "top", "full")
_NAME_MAX_CHARS = 255  # as bundle.manifest has it


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainConfig:
    """What a run is told."""

    data: Path
    out: Path  # NAME.dt
    name: str | None = None  # of the model; None: the stem of `out`
    method: str = "auto"
    backbone: str = "efficientnet_lite0"
    size: int | None = None  # pixels a side; None is the backbone's own
    resize: Fit = "crop"
    valid_share: float = 0.2  # of each class, where the data has no split of its own
    seed: int = 42
    fixtures: FixtureSource = "validation"
    max_error: float | None = None  # these as in PolicyOptions
    max_defer: float | None = None
    per_class: bool = False
    cost_error: float | None = None
    cost_review: float | None = None
    ood_alpha: float = 0.05
    views: int | None = None  # augmented views a picture; None: as the method has it
    epochs: int | None = None
    batch: int | None = None  # pictures a step
    lr: float | None = None
    class_weights: str | None = None  # "balanced": all classes count alike
    resume: bool = False  # go on where a killed run was
    learning_curve: bool = False  # also fit to parts of the data: what would more pictures bring?

    def __post_init__(self) -> None:
        _check("--method", self.method, METHODS)
        _check("--resize", self.resize, ("crop", "pad", "squish"))
        _check("--fixtures", self.fixtures, ("validation", "synthetic"))
        if self.out.suffix != ".dt" or not self.out.stem:
            raise InvalidConfig("-o", got=str(self.out), want="a file NAME.dt", hint="Example: -o bears.dt")
        if self.out.is_dir():
            raise InvalidConfig("-o", got=f"{self.out}, a folder", want="a file NAME.dt")
        if self.name is not None and not (0 < len(self.name) <= _NAME_MAX_CHARS and self.name.isprintable()):
            want = f"1 to {_NAME_MAX_CHARS} characters to print"
            raise InvalidConfig("--name", got=repr(self.name)[:80], want=want)
        check_valid_share(self.valid_share)
        if self.seed < 0:
            raise InvalidConfig("--seed", got=self.seed, want="a whole number, at least 0")
        self._check_fit()
        _ = self.policy_options  # raises for what is off

    @property
    def model_name(self) -> str:
        """What the model is called: versions of one model bear one name."""
        return self.out.stem if self.name is None else self.name

    @property
    def fit_options(self) -> FitOptions:
        """What of it a method needs."""
        return FitOptions(
            seed=self.seed,
            views=self.views,
            epochs=self.epochs,
            batch=self.batch,
            lr=self.lr,
            class_weights=self.class_weights,
            resume=self.resume,
        )

    @property
    def policy_options(self) -> PolicyOptions:
        """What of it says when the model decides by itself."""
        return PolicyOptions(
            max_error=self.max_error,
            max_defer=self.max_defer,
            per_class=self.per_class,
            cost_error=self.cost_error,
            cost_review=self.cost_review,
            ood_alpha=self.ood_alpha,
        )

    def _check_fit(self) -> None:
        for option, value, least in (
            ("--views", self.views, 0),
            ("--epochs", self.epochs, 1),
            ("--batch", self.batch, 1),
        ):
            if value is not None and value < least:
                raise InvalidConfig(option, got=value, want=f"a whole number of at least {least}")
        if self.lr is not None and not 0 < self.lr < float("inf"):
            raise InvalidConfig("--lr", got=self.lr, want="a number above 0")
        if self.class_weights not in (None, "balanced"):
            raise InvalidConfig("--class-weights", got=self.class_weights, want="balanced, or nothing")
        steps = [f"--{name}" for name in ("epochs", "batch", "lr") if getattr(self, name) is not None]
        if self.method == "head" and (steps or self.resume):
            raise InvalidConfig(
                steps[0] if steps else "--resume",
                got="it with --method head, which is fitted in one go",
                want="--method auto, top or full",
            )
        if self.method == "full" and self.views is not None:
            raise InvalidConfig("--views", got="it with --method full", want="--epochs: each epoch draws new views")


def _check(option: str, value: str, allowed: Sequence[str]) -> None:
    if value not in allowed:
        raise InvalidConfig(option, got=value, want="one of " + ", ".join(allowed))
