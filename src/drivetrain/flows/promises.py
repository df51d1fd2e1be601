"""What is promised of a model that finds labels, or that measures; of classes `trust.deferral` says it."""

from __future__ import annotations

from dataclasses import dataclass

from drivetrain.trust.label_rule import LabelRule, state_label_promises

__all__ = ["IntervalPromise", "LabelPromises"]


@dataclass(frozen=True, slots=True, kw_only=True)
class LabelPromises:
    """What is promised where pictures bear any number of labels: label by label, answer by answer."""

    names: tuple[str, ...]
    rules: tuple[LabelRule, ...]

    @property
    def statement(self) -> str:
        """The promises, or their absence, for a person."""
        return state_label_promises(self.rules, self.names)


@dataclass(frozen=True, slots=True, kw_only=True)
class IntervalPromise:
    """What is promised where something is measured: how far the truth may be, in the unit of the labels."""

    names: tuple[str, ...]
    half_widths: tuple[float | None, ...]  # None where too few pictures were kept apart
    coverage: float
    n_calibration: int

    @property
    def statement(self) -> str:
        """The promise, or its absence, for a person."""
        share = f"{100 * self.coverage:g} %"
        told = [
            f"{width:.4g}" + (f" ({name})" if len(self.names) > 1 else "")
            for name, width in zip(self.names, self.half_widths, strict=True)
            if width is not None
        ]
        if not told:
            needed = round(self.coverage / (1 - self.coverage))
            return (
                f"No promise: {self.n_calibration} pictures kept apart are too few for an interval that holds the true "
                f"value for {share} of pictures (it takes {needed})."
            )
        return (
            f"For {share} of pictures like those it was measured on, the true value lies within {', '.join(told)} of "
            f"its answer{', each by itself' if len(told) > 1 else ''} (from {self.n_calibration} pictures kept apart). "
            "The interval is as wide for every picture, so it cannot tell which answer is doubtful: only pictures "
            "unlike what it knows go to a person."
        )
