"""What a user asks of a model's decisions, checked before anything is read."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

from drivetrain.errors import BundleRefused, InvalidConfig
from drivetrain.task import Task

__all__ = ["PolicyOptions"]

_UNKNOWN_SHARE = 0.8  # of the false flags allowed; the others are for pictures whose style is new
_MAX_ERROR = 0.05
_LEAST, _SHARE = 1e-6, "a share from 0.000001 to below 1, such as 0.05"  # no number of pictures tells less
_WHERE = "manifest.decision.policy"


@dataclass(frozen=True, slots=True, kw_only=True)
class PolicyOptions:
    """Either a promise (max_error) or a price of each mistake (cost_error, cost_review) says what it decides alone."""

    max_error: float | None = None  # share of its own decisions that may be wrong; None: 0.05, unless costs are given
    max_defer: float | None = None  # share that may be left to a person
    per_class: bool = False  # promise it for each class by itself; a class without the pictures for it is left open
    cost_error: float | None = None  # of a wrong decision, in any unit
    cost_review: float | None = None  # of a person's look, in the same
    ood_alpha: float = 0.05  # share of known pictures that may be flagged as unknown or shifted

    def __post_init__(self) -> None:
        for option, share in (("--max-error", self.max_error), ("--max-defer", self.max_defer)):
            if share is not None and not _LEAST <= share < 1:
                raise InvalidConfig(option, got=share, want=_SHARE)
        if not _LEAST <= self.ood_alpha < 1:
            raise InvalidConfig("--ood-alpha", got=self.ood_alpha, want=_SHARE)
        self._check_costs()

    def _check_costs(self) -> None:
        costs = {"--cost-error": self.cost_error, "--cost-review": self.cost_review}
        for option, cost in costs.items():
            if cost is not None and not 0 < cost < float("inf"):
                raise InvalidConfig(option, got=cost, want="a number above 0")
        given = [option for option, cost in costs.items() if cost is not None]
        if len(given) == 1:
            raise InvalidConfig(given[0], got="it alone", want=" and ".join(costs) + " together, in one unit")
        others = [
            option
            for option, is_given in (
                ("--max-error", self.max_error is not None),
                ("--max-defer", self.max_defer is not None),
                ("--per-class", self.per_class),
            )
            if is_given
        ]
        if given and others:
            raise InvalidConfig(
                others[0], got="it with --cost-error", want="a promise or costs: each says when to defer"
            )

    @property
    def promised_error(self) -> float:
        """Of a promise."""
        return _MAX_ERROR if self.max_error is None else self.max_error

    @property
    def costs(self) -> tuple[float, float] | None:
        """(of an error, of a person's look), where these decide."""
        return None if self.cost_error is None or self.cost_review is None else (self.cost_error, self.cost_review)

    def share_alpha(self, *, with_style: bool) -> tuple[float, float]:
        """(for the unknown, for the shifted): together ood_alpha; where styles are not measured all is the first's."""
        first = _UNKNOWN_SHARE * self.ood_alpha if with_style else self.ood_alpha
        return round(first, 12), round(self.ood_alpha - first, 12)  # 0.8 of 0.05 is to be 0.04

    def check_task(self, task: Task) -> None:
        """Raise InvalidConfig for what only has a meaning where classes are told apart."""
        if task == "classification":
            return
        given = "--cost-error" if self.costs else "--per-class" if self.per_class else ""
        if given:
            raise InvalidConfig(given, got=f"it for a model of {task}", want="a model that tells classes apart")

    def as_json(self) -> dict[str, Any]:
        """What was asked, for the manifest."""
        return {name: value for name, value in asdict(self).items() if value is not None}

    @classmethod
    def from_json(cls, asked: object) -> PolicyOptions:
        """What a manifest says was asked; nothing is the default. Raises BundleRefused for what could not be asked."""
        known = {one.name for one in fields(cls)}
        given = dict(asked) if isinstance(asked, Mapping) else {}
        for name, value in given.items():
            wanted = (bool,) if name == "per_class" else (int, float)
            if name not in known or type(value) not in wanted:
                raise BundleRefused("bundle_manifest", f"{_WHERE}.{name}", got=value, want="an option of `certify`")
        try:
            return cls(**given)
        except InvalidConfig as exc:
            raise BundleRefused("bundle_manifest", _WHERE, got=f"{exc.field} {exc.got}", want=exc.want) from None
