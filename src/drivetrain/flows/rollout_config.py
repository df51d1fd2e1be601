"""What is settled when a roll-out starts, and does not change while it goes on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from drivetrain.errors import InvalidConfig
from drivetrain.rollout.gates import GateConfig

__all__ = ["RolloutConfig"]

# evidence that two starts share must mean the same in both
_FROZEN_GATE = ("bound", "margin", "alpha", "harm_alpha", "fail_max", "has_incumbent")


@dataclass(frozen=True, slots=True, kw_only=True)
class RolloutConfig:
    """Kept as JSON with the deployment; `from_json` reads it again."""

    gate: GateConfig
    objective: str  # what is to be reached, in a person's words
    cost_error: float  # of a wrong automatic decision, in any unit
    cost_review: float  # of one label, in the same unit
    review_budget: float | None = None  # labels a day that people can give
    traffic: float | None = None  # requests a day, as expected
    scope: str = ""  # where the candidate decides in `limited`; "" is everywhere
    audit_share: float = 0.1  # of automatic decisions, drawn by chance for a label
    second_share: float = 0.1  # of labels that two people give
    due_hours: float = 24.0  # a label that comes later does not count
    has_shadow: bool = True  # both see every request; else each is asked of one version only
    threshold: str = ""  # what the candidate promises of what it decides by itself
    open_questions: tuple[str, ...] = field(default=())  # of the datasheet, without an answer
    datasheet_sha256: str = ""  # of the one that was read
    prior: tuple[float, float] | None = None  # wrong and right decisions believed in before: shown, never a gate
    prior_from: str = ""  # where that came from, in words

    def __post_init__(self) -> None:
        problems = []
        if not self.objective.strip():
            problems.append("no objective")
        problems += [
            f"{name} {getattr(self, name):g}, below 0"
            for name in ("cost_error", "cost_review")
            if not getattr(self, name) >= 0
        ]
        problems += [
            f"{name} {value:g}, not above 0"
            for name in ("review_budget", "traffic", "due_hours")
            if (value := getattr(self, name)) is not None and not value > 0
        ]
        if not 0 < self.audit_share <= 1:
            problems.append(f"audit_share {self.audit_share:g}, not above 0 and at most 1")
        if not 0 <= self.second_share <= 1:
            problems.append(f"second_share {self.second_share:g}, not 0 to 1")
        if problems:
            raise InvalidConfig("rollout", got="; ".join(problems), want="an objective, costs and shares in range")

    def as_json(self) -> dict[str, Any]:
        """Plain values."""
        prior = None if self.prior is None else list(self.prior)
        return asdict(self) | {"open_questions": list(self.open_questions), "prior": prior}

    @classmethod
    def from_json(cls, raw: Mapping[str, Any]) -> RolloutConfig:
        """What `as_json` gave. Raises InvalidConfig where it is something else."""
        try:
            values = dict(raw) | {"gate": GateConfig(**raw["gate"]), "open_questions": tuple(raw["open_questions"])}
            if values.get("prior") is not None:
                values["prior"] = tuple(values["prior"])
            return cls(**values)
        except (KeyError, TypeError) as exc:
            got = f"what another version wrote ({exc})"
            raise InvalidConfig("rollout", got=got, want="a roll-out that `rollout start` began") from None

    @property
    def has_datasheet(self) -> bool:
        return not self.open_questions

    @property
    def frozen(self) -> dict[str, Any]:
        """What may not differ between two starts that share their evidence."""
        return {name: getattr(self.gate, name) for name in _FROZEN_GATE} | {
            "audit_share": self.audit_share,
            "has_shadow": self.has_shadow,
        }
