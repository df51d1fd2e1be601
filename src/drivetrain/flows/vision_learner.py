"""`vision_learner`: fastai's name for a pretrained network about to learn one's own pictures, here up to the bundle."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from drivetrain.settings import Settings, load_settings

if TYPE_CHECKING:
    from drivetrain.learn.backbones import Backbone
    from drivetrain.learn.data_loaders import DataLoaders
    from drivetrain.learn.network import Network
    from drivetrain.learn.vision_learner import VisionLearner

__all__ = ["vision_learner"]


def vision_learner(
    dls: DataLoaders, arch: str | Backbone | Network, *, settings: Settings | None = None, **options: Any
) -> VisionLearner:
    """A VisionLearner of `arch` (efficientnet_lite0, timm:NAME, hf:REPO, a Backbone or a Network) on `dls`.

    `options` are those of learn.learner.vision_learner: metrics, loss_func, class_weights, cbs, lr, wd, pretrained,
    normalize, dropout, head, and the rest of LearnerOptions. settings None reads them from file and environment. Raises
    InvalidInput, InvalidConfig, MissingExtra.
    """
    from drivetrain.learn.learner import vision_learner as make_learner  # torch
    from drivetrain.learn.vision_learner import VisionLearner

    learn = make_learner(dls, arch, kind=VisionLearner, **options)
    learn.settings = load_settings() if settings is None else settings
    learn.pretrained = arch if isinstance(arch, str) and options.get("pretrained", True) else None
    learn.exporter = _export
    return learn


def _export(learn: VisionLearner, path: Path) -> Path:
    from drivetrain.flows.export_learner import export_learner  # late: scipy

    return export_learner(learn, path)
