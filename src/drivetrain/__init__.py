"""From a folder of pictures to a model in production that can be trusted.

`load("bears.dt").predict("grizzly.jpg")` gives a Prediction: label, calibrated probability, and whether to trust it.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from drivetrain.data.getters import ColReader as ColReader
    from drivetrain.data.getters import FileGetter as FileGetter
    from drivetrain.data.getters import RegexLabeller as RegexLabeller
    from drivetrain.data.getters import get_image_files as get_image_files
    from drivetrain.data.getters import parent_label as parent_label
    from drivetrain.data.getters import using_attr as using_attr
    from drivetrain.data.getters import verify_images as verify_images
    from drivetrain.data.group_splitter import GroupSplitter as GroupSplitter
    from drivetrain.data.rows import read_rows as read_rows
    from drivetrain.data.splitters import ColSplitter as ColSplitter
    from drivetrain.data.splitters import FuncSplitter as FuncSplitter
    from drivetrain.data.splitters import GrandparentSplitter as GrandparentSplitter
    from drivetrain.data.splitters import IndexSplitter as IndexSplitter
    from drivetrain.data.splitters import RandomSplitter as RandomSplitter
    from drivetrain.data.splitters import TrainTestSplitter as TrainTestSplitter
    from drivetrain.data.transforms import CropPad as CropPad
    from drivetrain.data.transforms import FlipItem as FlipItem
    from drivetrain.data.transforms import PadMode as PadMode
    from drivetrain.data.transforms import RandomResizedCrop as RandomResizedCrop
    from drivetrain.data.transforms import Resize as Resize
    from drivetrain.data.transforms import ResizeMethod as ResizeMethod
    from drivetrain.flows.gather import GatherConfig as GatherConfig
    from drivetrain.flows.gather import gather as gather
    from drivetrain.flows.vision_learner import vision_learner as vision_learner
    from drivetrain.learn.augment import Augment as Augment
    from drivetrain.learn.augment import Brightness as Brightness
    from drivetrain.learn.augment import Contrast as Contrast
    from drivetrain.learn.augment import Dihedral as Dihedral
    from drivetrain.learn.augment import Flip as Flip
    from drivetrain.learn.augment import Normalize as Normalize
    from drivetrain.learn.augment import RandomResizedCropGPU as RandomResizedCropGPU
    from drivetrain.learn.augment import Rotate as Rotate
    from drivetrain.learn.augment import Saturation as Saturation
    from drivetrain.learn.augment import Warp as Warp
    from drivetrain.learn.augment import Zoom as Zoom
    from drivetrain.learn.augment import aug_transforms as aug_transforms
    from drivetrain.learn.augment import imagenet_stats as imagenet_stats
    from drivetrain.learn.blocks import CategoryBlock as CategoryBlock
    from drivetrain.learn.blocks import ImageBlock as ImageBlock
    from drivetrain.learn.blocks import MultiCategoryBlock as MultiCategoryBlock
    from drivetrain.learn.blocks import RegressionBlock as RegressionBlock
    from drivetrain.learn.blocks import TransformBlock as TransformBlock
    from drivetrain.learn.callbacks import Callback as Callback
    from drivetrain.learn.callbacks import EarlyStoppingCallback as EarlyStoppingCallback
    from drivetrain.learn.callbacks import ReduceLROnPlateau as ReduceLROnPlateau
    from drivetrain.learn.callbacks import SaveModelCallback as SaveModelCallback
    from drivetrain.learn.data_block import DataBlock as DataBlock
    from drivetrain.learn.data_loaders import DataLoaders as DataLoaders
    from drivetrain.learn.learner import Learner as Learner
    from drivetrain.learn.loggers import CSVLogger as CSVLogger
    from drivetrain.learn.loggers import MLflowCallback as MLflowCallback
    from drivetrain.learn.loggers import ShowGraphCallback as ShowGraphCallback
    from drivetrain.learn.loggers import WandbCallback as WandbCallback
    from drivetrain.learn.losses import CrossEntropy as CrossEntropy
    from drivetrain.learn.losses import Huber as Huber
    from drivetrain.learn.lr_find import minimum as minimum
    from drivetrain.learn.lr_find import slide as slide
    from drivetrain.learn.lr_find import steep as steep
    from drivetrain.learn.lr_find import valley as valley
    from drivetrain.learn.metrics import ECE as ECE
    from drivetrain.learn.metrics import APScoreBinary as APScoreBinary
    from drivetrain.learn.metrics import APScoreMulti as APScoreMulti
    from drivetrain.learn.metrics import BalancedAccuracy as BalancedAccuracy
    from drivetrain.learn.metrics import BrierScore as BrierScore
    from drivetrain.learn.metrics import BrierScoreMulti as BrierScoreMulti
    from drivetrain.learn.metrics import CohenKappa as CohenKappa
    from drivetrain.learn.metrics import ExpectedCalibrationError as ExpectedCalibrationError
    from drivetrain.learn.metrics import ExplainedVariance as ExplainedVariance
    from drivetrain.learn.metrics import F1Score as F1Score
    from drivetrain.learn.metrics import F1ScoreMulti as F1ScoreMulti
    from drivetrain.learn.metrics import FBeta as FBeta
    from drivetrain.learn.metrics import FBetaMulti as FBetaMulti
    from drivetrain.learn.metrics import HammingLossMulti as HammingLossMulti
    from drivetrain.learn.metrics import Jaccard as Jaccard
    from drivetrain.learn.metrics import JaccardMulti as JaccardMulti
    from drivetrain.learn.metrics import MatthewsCorrCoef as MatthewsCorrCoef
    from drivetrain.learn.metrics import MatthewsCorrCoefMulti as MatthewsCorrCoefMulti
    from drivetrain.learn.metrics import PearsonCorrCoef as PearsonCorrCoef
    from drivetrain.learn.metrics import Perplexity as Perplexity
    from drivetrain.learn.metrics import Precision as Precision
    from drivetrain.learn.metrics import PrecisionMulti as PrecisionMulti
    from drivetrain.learn.metrics import R2Score as R2Score
    from drivetrain.learn.metrics import Recall as Recall
    from drivetrain.learn.metrics import RecallMulti as RecallMulti
    from drivetrain.learn.metrics import RocAuc as RocAuc
    from drivetrain.learn.metrics import RocAucBinary as RocAucBinary
    from drivetrain.learn.metrics import RocAucMulti as RocAucMulti
    from drivetrain.learn.metrics import SpearmanCorrCoef as SpearmanCorrCoef
    from drivetrain.learn.metrics import accuracy as accuracy
    from drivetrain.learn.metrics import accuracy_multi as accuracy_multi
    from drivetrain.learn.metrics import error_rate as error_rate
    from drivetrain.learn.metrics import exp_rmspe as exp_rmspe
    from drivetrain.learn.metrics import mae as mae
    from drivetrain.learn.metrics import mse as mse
    from drivetrain.learn.metrics import msle as msle
    from drivetrain.learn.metrics import rmse as rmse
    from drivetrain.learn.metrics import skm_to_metric as skm_to_metric
    from drivetrain.learn.metrics import top_k_accuracy as top_k_accuracy
    from drivetrain.learn.mixing import CutMix as CutMix
    from drivetrain.learn.mixing import MixUp as MixUp
    from drivetrain.runtime.prediction import Prediction as Prediction
    from drivetrain.runtime.predictor import Predictor as Predictor
    from drivetrain.runtime.predictor import load as load

__all__ = [
    "ECE",
    "APScoreBinary",
    "APScoreMulti",
    "Augment",
    "BalancedAccuracy",
    "BrierScore",
    "BrierScoreMulti",
    "Brightness",
    "CSVLogger",
    "Callback",
    "CategoryBlock",
    "CohenKappa",
    "ColReader",
    "ColSplitter",
    "Contrast",
    "CropPad",
    "CrossEntropy",
    "CutMix",
    "DataBlock",
    "DataLoaders",
    "Dihedral",
    "EarlyStoppingCallback",
    "ExpectedCalibrationError",
    "ExplainedVariance",
    "F1Score",
    "F1ScoreMulti",
    "FBeta",
    "FBetaMulti",
    "FileGetter",
    "Flip",
    "FlipItem",
    "FuncSplitter",
    "GatherConfig",
    "GrandparentSplitter",
    "GroupSplitter",
    "HammingLossMulti",
    "Huber",
    "ImageBlock",
    "IndexSplitter",
    "Jaccard",
    "JaccardMulti",
    "Learner",
    "MLflowCallback",
    "MatthewsCorrCoef",
    "MatthewsCorrCoefMulti",
    "MixUp",
    "MultiCategoryBlock",
    "Normalize",
    "PadMode",
    "PearsonCorrCoef",
    "Perplexity",
    "Precision",
    "PrecisionMulti",
    "Prediction",
    "Predictor",
    "R2Score",
    "RandomResizedCrop",
    "RandomResizedCropGPU",
    "RandomSplitter",
    "Recall",
    "RecallMulti",
    "ReduceLROnPlateau",
    "RegexLabeller",
    "RegressionBlock",
    "Resize",
    "ResizeMethod",
    "RocAuc",
    "RocAucBinary",
    "RocAucMulti",
    "Rotate",
    "Saturation",
    "SaveModelCallback",
    "ShowGraphCallback",
    "SpearmanCorrCoef",
    "TrainTestSplitter",
    "TransformBlock",
    "WandbCallback",
    "Warp",
    "Zoom",
    "accuracy",
    "accuracy_multi",
    "aug_transforms",
    "error_rate",
    "exp_rmspe",
    "gather",
    "get_image_files",
    "imagenet_stats",
    "load",
    "mae",
    "minimum",
    "mse",
    "msle",
    "parent_label",
    "read_rows",
    "rmse",
    "skm_to_metric",
    "slide",
    "steep",
    "top_k_accuracy",
    "using_attr",
    "valley",
    "verify_images",
    "vision_learner",
]

# name -> where it lives; loaded when first asked for, so that `import drivetrain` costs nothing
_HOMES = {
    "APScoreBinary": "drivetrain.learn.metrics",
    "APScoreMulti": "drivetrain.learn.metrics",
    "Augment": "drivetrain.learn.augment",
    "BalancedAccuracy": "drivetrain.learn.metrics",
    "BrierScore": "drivetrain.learn.metrics",
    "BrierScoreMulti": "drivetrain.learn.metrics",
    "Brightness": "drivetrain.learn.augment",
    "CSVLogger": "drivetrain.learn.loggers",
    "Callback": "drivetrain.learn.callbacks",
    "CategoryBlock": "drivetrain.learn.blocks",
    "CohenKappa": "drivetrain.learn.metrics",
    "ColReader": "drivetrain.data.getters",
    "ColSplitter": "drivetrain.data.splitters",
    "Contrast": "drivetrain.learn.augment",
    "CropPad": "drivetrain.data.transforms",
    "CrossEntropy": "drivetrain.learn.losses",
    "CutMix": "drivetrain.learn.mixing",
    "DataBlock": "drivetrain.learn.data_block",
    "DataLoaders": "drivetrain.learn.data_loaders",
    "Dihedral": "drivetrain.learn.augment",
    "ECE": "drivetrain.learn.metrics",
    "EarlyStoppingCallback": "drivetrain.learn.callbacks",
    "ExpectedCalibrationError": "drivetrain.learn.metrics",
    "ExplainedVariance": "drivetrain.learn.metrics",
    "F1Score": "drivetrain.learn.metrics",
    "F1ScoreMulti": "drivetrain.learn.metrics",
    "FBeta": "drivetrain.learn.metrics",
    "FBetaMulti": "drivetrain.learn.metrics",
    "FileGetter": "drivetrain.data.getters",
    "Flip": "drivetrain.learn.augment",
    "FlipItem": "drivetrain.data.transforms",
    "FuncSplitter": "drivetrain.data.splitters",
    "GatherConfig": "drivetrain.flows.gather",
    "GrandparentSplitter": "drivetrain.data.splitters",
    "GroupSplitter": "drivetrain.data.group_splitter",
    "HammingLossMulti": "drivetrain.learn.metrics",
    "Huber": "drivetrain.learn.losses",
    "ImageBlock": "drivetrain.learn.blocks",
    "IndexSplitter": "drivetrain.data.splitters",
    "Jaccard": "drivetrain.learn.metrics",
    "JaccardMulti": "drivetrain.learn.metrics",
    "Learner": "drivetrain.learn.learner",
    "MLflowCallback": "drivetrain.learn.loggers",
    "MatthewsCorrCoef": "drivetrain.learn.metrics",
    "MatthewsCorrCoefMulti": "drivetrain.learn.metrics",
    "MixUp": "drivetrain.learn.mixing",
    "MultiCategoryBlock": "drivetrain.learn.blocks",
    "Normalize": "drivetrain.learn.augment",
    "PadMode": "drivetrain.data.transforms",
    "PearsonCorrCoef": "drivetrain.learn.metrics",
    "Perplexity": "drivetrain.learn.metrics",
    "Precision": "drivetrain.learn.metrics",
    "PrecisionMulti": "drivetrain.learn.metrics",
    "Prediction": "drivetrain.runtime.prediction",
    "Predictor": "drivetrain.runtime.predictor",
    "R2Score": "drivetrain.learn.metrics",
    "RandomResizedCrop": "drivetrain.data.transforms",
    "RandomResizedCropGPU": "drivetrain.learn.augment",
    "RandomSplitter": "drivetrain.data.splitters",
    "Recall": "drivetrain.learn.metrics",
    "RecallMulti": "drivetrain.learn.metrics",
    "ReduceLROnPlateau": "drivetrain.learn.callbacks",
    "RegexLabeller": "drivetrain.data.getters",
    "RegressionBlock": "drivetrain.learn.blocks",
    "Resize": "drivetrain.data.transforms",
    "ResizeMethod": "drivetrain.data.transforms",
    "RocAuc": "drivetrain.learn.metrics",
    "RocAucBinary": "drivetrain.learn.metrics",
    "RocAucMulti": "drivetrain.learn.metrics",
    "Rotate": "drivetrain.learn.augment",
    "Saturation": "drivetrain.learn.augment",
    "SaveModelCallback": "drivetrain.learn.callbacks",
    "ShowGraphCallback": "drivetrain.learn.loggers",
    "SpearmanCorrCoef": "drivetrain.learn.metrics",
    "TrainTestSplitter": "drivetrain.data.splitters",
    "TransformBlock": "drivetrain.learn.blocks",
    "WandbCallback": "drivetrain.learn.loggers",
    "Warp": "drivetrain.learn.augment",
    "Zoom": "drivetrain.learn.augment",
    "accuracy": "drivetrain.learn.metrics",
    "accuracy_multi": "drivetrain.learn.metrics",
    "aug_transforms": "drivetrain.learn.augment",
    "error_rate": "drivetrain.learn.metrics",
    "exp_rmspe": "drivetrain.learn.metrics",
    "gather": "drivetrain.flows.gather",
    "get_image_files": "drivetrain.data.getters",
    "imagenet_stats": "drivetrain.learn.augment",
    "load": "drivetrain.runtime.predictor",
    "mae": "drivetrain.learn.metrics",
    "minimum": "drivetrain.learn.lr_find",
    "mse": "drivetrain.learn.metrics",
    "msle": "drivetrain.learn.metrics",
    "parent_label": "drivetrain.data.getters",
    "read_rows": "drivetrain.data.rows",
    "rmse": "drivetrain.learn.metrics",
    "skm_to_metric": "drivetrain.learn.metrics",
    "slide": "drivetrain.learn.lr_find",
    "steep": "drivetrain.learn.lr_find",
    "top_k_accuracy": "drivetrain.learn.metrics",
    "using_attr": "drivetrain.data.getters",
    "valley": "drivetrain.learn.lr_find",
    "verify_images": "drivetrain.data.getters",
    "vision_learner": "drivetrain.flows.vision_learner",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'drivetrain' has no attribute {name!r}; it has {', '.join(__all__)}")
    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
