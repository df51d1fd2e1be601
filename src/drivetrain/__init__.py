"""From a folder of pictures to a model in production that can be trusted.

`load("bears.dt").predict("grizzly.jpg")` gives a Prediction: label, calibrated probability, and whether to trust it.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from drivetrain.runtime.prediction import Prediction as Prediction
    from drivetrain.runtime.predictor import Predictor as Predictor
    from drivetrain.runtime.predictor import load as load

__all__ = ["Prediction", "Predictor", "load"]

# name -> where it lives; loaded when first asked for, so that `import drivetrain` costs nothing
_HOMES = {
    "Prediction": "drivetrain.runtime.prediction",
    "Predictor": "drivetrain.runtime.predictor",
    "load": "drivetrain.runtime.predictor",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'drivetrain' has no attribute {name!r}; it has {', '.join(__all__)}")
    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
