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
    from drivetrain.learn.data_block import DataBlock as DataBlock
    from drivetrain.learn.data_loaders import DataLoaders as DataLoaders
    from drivetrain.runtime.prediction import Prediction as Prediction
    from drivetrain.runtime.predictor import Predictor as Predictor
    from drivetrain.runtime.predictor import load as load

__all__ = [
    "Augment",
    "Brightness",
    "CategoryBlock",
    "ColReader",
    "ColSplitter",
    "Contrast",
    "CropPad",
    "DataBlock",
    "DataLoaders",
    "Dihedral",
    "FileGetter",
    "Flip",
    "FlipItem",
    "FuncSplitter",
    "GatherConfig",
    "GrandparentSplitter",
    "GroupSplitter",
    "ImageBlock",
    "IndexSplitter",
    "MultiCategoryBlock",
    "Normalize",
    "PadMode",
    "Prediction",
    "Predictor",
    "RandomResizedCrop",
    "RandomResizedCropGPU",
    "RandomSplitter",
    "RegexLabeller",
    "RegressionBlock",
    "Resize",
    "ResizeMethod",
    "Rotate",
    "Saturation",
    "TrainTestSplitter",
    "TransformBlock",
    "Warp",
    "Zoom",
    "aug_transforms",
    "gather",
    "get_image_files",
    "imagenet_stats",
    "load",
    "parent_label",
    "read_rows",
    "using_attr",
    "verify_images",
]

# name -> where it lives; loaded when first asked for, so that `import drivetrain` costs nothing
_HOMES = {
    "Augment": "drivetrain.learn.augment",
    "Brightness": "drivetrain.learn.augment",
    "CategoryBlock": "drivetrain.learn.blocks",
    "ColReader": "drivetrain.data.getters",
    "ColSplitter": "drivetrain.data.splitters",
    "Contrast": "drivetrain.learn.augment",
    "CropPad": "drivetrain.data.transforms",
    "DataBlock": "drivetrain.learn.data_block",
    "DataLoaders": "drivetrain.learn.data_loaders",
    "Dihedral": "drivetrain.learn.augment",
    "FileGetter": "drivetrain.data.getters",
    "Flip": "drivetrain.learn.augment",
    "FlipItem": "drivetrain.data.transforms",
    "FuncSplitter": "drivetrain.data.splitters",
    "GatherConfig": "drivetrain.flows.gather",
    "GrandparentSplitter": "drivetrain.data.splitters",
    "GroupSplitter": "drivetrain.data.group_splitter",
    "ImageBlock": "drivetrain.learn.blocks",
    "IndexSplitter": "drivetrain.data.splitters",
    "MultiCategoryBlock": "drivetrain.learn.blocks",
    "Normalize": "drivetrain.learn.augment",
    "PadMode": "drivetrain.data.transforms",
    "Prediction": "drivetrain.runtime.prediction",
    "Predictor": "drivetrain.runtime.predictor",
    "RandomResizedCrop": "drivetrain.data.transforms",
    "RandomResizedCropGPU": "drivetrain.learn.augment",
    "RandomSplitter": "drivetrain.data.splitters",
    "RegexLabeller": "drivetrain.data.getters",
    "RegressionBlock": "drivetrain.learn.blocks",
    "Resize": "drivetrain.data.transforms",
    "ResizeMethod": "drivetrain.data.transforms",
    "Rotate": "drivetrain.learn.augment",
    "Saturation": "drivetrain.learn.augment",
    "TrainTestSplitter": "drivetrain.data.splitters",
    "TransformBlock": "drivetrain.learn.blocks",
    "Warp": "drivetrain.learn.augment",
    "Zoom": "drivetrain.learn.augment",
    "aug_transforms": "drivetrain.learn.augment",
    "gather": "drivetrain.flows.gather",
    "get_image_files": "drivetrain.data.getters",
    "imagenet_stats": "drivetrain.learn.augment",
    "load": "drivetrain.runtime.predictor",
    "parent_label": "drivetrain.data.getters",
    "read_rows": "drivetrain.data.rows",
    "using_attr": "drivetrain.data.getters",
    "verify_images": "drivetrain.data.getters",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'drivetrain' has no attribute {name!r}; it has {', '.join(__all__)}")
    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
