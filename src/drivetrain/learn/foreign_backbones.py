"""Backbones of the hubs: timm:NAME and hf:REPO. Only safetensors are read, and no code of a repository is run.

What a network wants of its pixels is read from its own configuration, never guessed.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections.abc import Callable, Collection, Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any, Literal, Protocol

import torch
from torch import Tensor, nn

from drivetrain.errors import InvalidConfig, MissingExtra, NotFound, Unavailable

from .backbones import Backbone, Piece
from .batch_norm import fold_batch_norm
from .parting import find_steps, first_tensor, merge_steps, run_steps
from .trunk import UNKNOWN_LICENCE, BackboneSpec

__all__ = ["ForeignBackbone", "digest_weights", "fetch_file", "load_foreign_backbone", "load_hf", "load_timm"]

Layout = Literal["nchw", "nhwc", "tokens"]
Fetch = Callable[[str, str], Path | None]  # (repository, file) -> where it lies; None if the repository has none
Run = Callable[[nn.Module, Tensor], Tensor]

_MAX_BYTES = 900_000_000  # of weights: a bundle holds 1 GB in all
_MAX_GAP = 1e-4  # of a kept activation, with batch norms folded and without, as a share of its largest value
_FILTERS = {0: "nearest", 1: "lanczos", 2: "bilinear", 3: "bicubic", 4: "box"}  # Pillow's numbers
_HINT = (
    "Is the name right, and can the hub be reached from here? What was fetched once stays in its cache; "
    "a folder made by save_pretrained goes as hf:FOLDER."
)


class Create(Protocol):
    """timm.create_model."""

    def __call__(self, model_name: str, *, pretrained: bool, **options: Any) -> nn.Module: ...


class ForeignBackbone(Backbone):
    """Another's network, `body`, parted where its modules run one behind the other; else one piece without cuts."""

    def __init__(self, spec: BackboneSpec, body: nn.Module, run: Run, *, prefix: int | None = None) -> None:
        """run(body, pixels) gives the last features; prefix is how many tokens before the patches', None to find out.

        Raises InvalidConfig where its features are no map of the picture.
        """
        super().__init__(spec)
        self.body = body
        self.eval()
        self._run_body = run
        pixels = torch.randn(2, 3, spec.size, spec.size, generator=torch.Generator().manual_seed(0))
        with torch.no_grad():
            features = run(self.body, pixels)
        self._layout, self._prefix = _find_layout(features, spec, prefix)
        self._steps = merge_steps(self.body, find_steps(self.body, run, pixels))
        self._cuts: tuple[int, ...] = ()
        if self._steps:
            self._cuts = _find_cuts(self, pixels) if self._layout != "nhwc" else ()

    @property
    def pieces(self) -> Sequence[Piece]:
        """What runs one behind the other; the last of them lays the features out as a map."""
        if not self._steps:
            return [lambda x: self._to_map(self._run_body(self.body, x))]
        runs: list[Piece] = [lambda x, names=names: run_steps(self.body, names, x) for names in self._steps]  # type: ignore[misc]
        last = runs[-1]
        return [*runs[:-1], lambda x: self._to_map(last(x))]

    @property
    def cuts(self) -> tuple[int, ...]:
        return self._cuts

    def piece_parameters(self, piece: int) -> list[nn.Parameter]:
        """The weights that piece number `piece` works with."""
        if not self._steps:
            return [[*self.body.parameters()]][piece]
        modules = [self.body.get_submodule(name) for name in self._steps[piece]]
        return [parameter for module in modules for parameter in module.parameters()]

    def drop_classifier(self) -> None:
        """Let go of what no piece runs: poolers and classifiers."""
        if not self._steps:
            return
        used = {name for names in self._steps for name in names}
        for name in [name for name, _ in self.body.named_children()]:
            if not any(f"{one}.".startswith(f"{name}.") for one in used):
                setattr(self.body, name, nn.Identity())

    def _to_map(self, x: Tensor) -> Tensor:
        if self._layout == "nchw":
            return x
        if self._layout == "nhwc":
            return x.permute(0, 3, 1, 2)
        side = math.isqrt(x.shape[1] - self._prefix)
        patches = x[:, self._prefix :].transpose(1, 2)
        return patches.reshape(-1, x.shape[2], side, side)


def load_foreign_backbone(name: str) -> Backbone:
    """timm:NAME or hf:REPO with its pretrained weights, in evaluation mode.

    Raises MissingExtra, Unavailable where its files cannot be fetched, InvalidConfig where it is no network of
    pictures.
    """
    hub, _, rest = name.partition(":")
    try:
        # by name: a type checker that followed these would read their thousands of files
        package = import_module({"timm": "timm", "hf": "transformers"}[hub])
    except ModuleNotFoundError as exc:
        raise MissingExtra(f"backbone {name}", package=exc.name or hub, extra=hub) from exc
    if hub == "timm":
        return load_timm(rest, create=package.create_model, fetch=fetch_file)
    return load_hf(rest, load=package.AutoModel.from_pretrained, fetch=fetch_file)


def load_timm(name: str, *, create: Create, fetch: Fetch) -> ForeignBackbone:
    """The network timm calls `name`; create is timm.create_model, fetch gets files of a repository."""
    full = f"timm:{name}"
    try:
        about = dict(create(name, pretrained=False, num_classes=0).pretrained_cfg)  # type: ignore[arg-type]
    except RuntimeError as exc:
        raise InvalidConfig("backbone", got=full, want="a name that timm.list_models() has", hint=str(exc)) from exc
    shape = tuple(about["input_size"])
    if shape[0] != 3 or shape[1] != shape[2]:
        raise InvalidConfig(full, got=f"pixels {shape}", want="a square of three channels")
    repository = str(about.get("hf_hub_id") or "")
    file = str(about.get("hf_hub_filename") or "")
    names = [file] if file.endswith(".safetensors") else ["model.safetensors", "open_clip_model.safetensors"]
    found = (_fetch(full, fetch, repository, one) for one in names if repository)
    weights = next((path for path in found if path is not None), None)
    if weights is None:
        raise Unavailable(
            full, got=f"no {names[0]} in {repository or 'any repository'}", want="weights as safetensors", hint=_HINT
        )
    chosen = {"file": str(weights), "custom_load": False}
    body = create(name, pretrained=True, num_classes=0, pretrained_cfg_overlay=chosen)
    spec = BackboneSpec(
        name=full,
        package="timm",
        size=shape[1],
        mean=tuple(map(float, about["mean"])),
        std=tuple(map(float, about["std"])),
        filter=_check_filter(full, about.get("interpolation", "")),
        feature_count=int(body.num_features),  # type: ignore[arg-type]
        licence=str(about.get("license") or UNKNOWN_LICENCE),
        source=f"https://huggingface.co/{repository}",
        is_size_fixed=bool(about.get("fixed_input_size")),
    )
    _check_bytes(spec, body)
    prefix = getattr(body, "num_prefix_tokens", None)
    return ForeignBackbone(spec, body, _run_timm, prefix=prefix)


def load_hf(repository: str, *, load: Callable[..., Any], fetch: Fetch) -> ForeignBackbone:
    """The network of a hub's repository, or of a local folder made by save_pretrained.

    load is transformers' AutoModel.from_pretrained, fetch gets files of a repository.
    """
    is_local = Path(repository).is_dir()
    full = f"hf:{Path(repository).resolve().name if is_local else repository}"  # a bundle names no folder of ours
    settings = _fetch(full, fetch, repository, "preprocessor_config.json")
    if settings is None:
        raise NotFound(
            full,
            got="no preprocessor_config.json",
            want="what the network was given in training: size, mean, std",
            hint="Save the image processor beside the network: processor.save_pretrained(FOLDER).",
        )
    try:
        body, report = load(
            repository,
            trust_remote_code=False,
            use_safetensors=True,
            dtype=torch.float32,
            output_loading_info=True,
        )
    except OSError as exc:
        raise Unavailable(full, got=_first_line(exc), want="config.json and model.safetensors", hint=_HINT) from exc
    except ValueError as exc:  # code of its own, or a kind of network that this transformers does not know
        raise InvalidConfig("backbone", got=f"{full}: {_first_line(exc)}", want="a network transformers has") from exc
    if getattr(body, "main_input_name", "") != "pixel_values" or getattr(body.config, "num_channels", 3) != 3:
        raise InvalidConfig("backbone", got=full, want="a network that takes RGB pictures and nothing else")
    read = _read_processor(full, settings)
    features = _probe(full, body.eval(), _run_hf, read["size"])
    spec = BackboneSpec(
        name=full,
        package="transformers",
        feature_count=features.shape[1] if features.ndim == 4 else features.shape[-1],
        licence=_read_licence(_fetch(full, fetch, repository, "README.md")),
        source=full if is_local else f"https://huggingface.co/{repository}",
        is_size_fixed=features.ndim != 4,
        **read,
    )
    _check_bytes(spec, body)
    backbone = ForeignBackbone(spec, body, _run_hf, prefix=_count_prefix(body.config, features))
    _check_whole(backbone, report["missing_keys"])
    return backbone


def fetch_file(repository: str, file: str) -> Path | None:
    """Where `file` of a local folder or of a hub's repository lies, fetched where it is not in the hub's cache yet."""
    if Path(repository).is_dir():
        path = Path(repository, file)
        return path if path.is_file() else None
    hub = import_module("huggingface_hub")  # comes with timm and with transformers
    try:
        return Path(hub.hf_hub_download(repository, file))
    except hub.errors.LocalEntryNotFoundError:  # the hub was not reached, which says nothing of what it has
        raise
    except hub.errors.EntryNotFoundError:
        return None


def digest_weights(backbone: nn.Module) -> str:
    """sha256 of names, types, shapes and values of a state dict, hex."""
    digest = hashlib.sha256()
    for name, value in sorted(backbone.state_dict().items()):
        digest.update(f"{name}:{value.dtype}:{tuple(value.shape)};".encode())
        digest.update(value.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def _run_timm(body: nn.Module, pixels: Tensor) -> Tensor:
    return first_tensor(body.forward_features(pixels))  # type: ignore[operator]


def _run_hf(body: nn.Module, pixels: Tensor) -> Tensor:
    return first_tensor(body(pixel_values=pixels))


def _probe(full: str, body: nn.Module, run: Run, size: int) -> Tensor:
    try:
        with torch.no_grad():
            return run(body, torch.zeros(2, 3, size, size))
    except (KeyError, IndexError, TypeError, ValueError, RuntimeError) as exc:
        got = f"{full}, which fails on pictures of {size} pixels: {_first_line(exc)}"
        raise InvalidConfig("backbone", got=got, want="a network from pictures to features") from exc


def _find_layout(features: Tensor, spec: BackboneSpec, prefix: int | None) -> tuple[Layout, int]:
    """How the last features lie, and how many of the tokens are none of the picture's."""
    count = spec.feature_count
    if features.ndim == 4 and features.shape[1] == count:
        return "nchw", 0
    if features.ndim == 4 and features.shape[3] == count:
        return "nhwc", 0
    if features.ndim == 3 and features.shape[2] == count:
        tokens = features.shape[1]
        before = tokens - math.isqrt(tokens) ** 2 if prefix is None else prefix
        if before < tokens and math.isqrt(tokens - before) ** 2 == tokens - before:
            return "tokens", before
    raise InvalidConfig(
        "backbone",
        got=f"{spec.name}, whose last features are {tuple(features.shape)}",
        want=f"a map (n, {count}, h, w) or the tokens of a square (n, tokens, {count})",
    )


def _find_cuts(backbone: ForeignBackbone, pixels: Tensor) -> tuple[int, ...]:
    """The pieces that are given the same with batch norms folded and without: what is kept serves both."""
    folded = fold_batch_norm(backbone)
    cuts = []
    with torch.no_grad():
        x, y = pixels, pixels
        for cut in range(1, len(backbone.pieces)):
            x, y = backbone.run(x, start=cut - 1, stop=cut), folded.run(y, start=cut - 1, stop=cut)
            gap = (x - y).abs().max() / x.abs().max().clamp_min(1.0)
            if x.ndim in {3, 4} and gap <= _MAX_GAP:
                cuts.append(cut)
    return tuple(cuts)


def _count_prefix(config: Any, features: Tensor) -> int | None:
    """Tokens before the patches', where the configuration tells how many patches there are."""
    image, patch = getattr(config, "image_size", None), getattr(config, "patch_size", None)
    if features.ndim != 3 or not isinstance(image, int) or not isinstance(patch, int):
        return None
    prefix = features.shape[1] - (image // patch) ** 2
    return prefix if 0 <= prefix <= 16 else None  # else patches were joined on the way, as Swin does


def _read_processor(full: str, file: Path) -> dict[str, Any]:
    """size, mean, std and filter as preprocessor_config.json has them; refused where we could not do the same."""
    try:
        read = json.loads(file.read_bytes())
        size = _read_size(read)
        mean, std = (
            ([0.0] * 3, [1.0] * 3) if read.get("do_normalize") is False else (read["image_mean"], read["image_std"])
        )
        scale = float(read.get("rescale_factor", 1 / 255))
        means, stds = tuple(map(float, mean)), tuple(map(float, std))
        filter_ = _FILTERS.get(int(read.get("resample", 2)), "")
        is_ours = len(means) == len(stds) == 3 and 1 <= size <= 4096
    except (ValueError, KeyError, TypeError, AttributeError) as exc:
        got = f"a preprocessor_config.json without {exc}" if isinstance(exc, KeyError) else "one that is damaged"
        raise InvalidConfig(full, got=got, want="size, image_mean and image_std") from exc
    odd = read.get("do_rescale") is False or abs(scale - 1 / 255) > 1e-6 or read.get("do_flip_channel_order") is True
    if odd or not is_ours:
        raise InvalidConfig(full, got="a preprocessing of another kind", want="RGB / 255, less mean, by std")
    return {"size": size, "mean": means, "std": stds, "filter": _check_filter(full, filter_)}


def _read_size(read: Mapping[str, Any]) -> int:
    size = read.get("crop_size") if read.get("do_center_crop") else None
    size = read["size"] if size is None else size
    if isinstance(size, Mapping):
        size = size["height"] if "height" in size else size["shortest_edge"]
    return int(size)


def _check_filter(full: str, name: str) -> str:
    if name not in _FILTERS.values():
        raise InvalidConfig(full, got=f"the filter {name!r}", want="one of " + ", ".join(_FILTERS.values()))
    return name


def _read_licence(readme: Path | None) -> str:
    """The line `license:` in the head of a model card."""
    text = readme.read_text("utf-8", errors="replace") if readme is not None else ""
    head = re.match(r"---\n(.*?)\n---", text, re.DOTALL)
    found = re.search(r"^license:\s*['\"]?([\w.-]+)", head[1], re.MULTILINE) if head else None
    return found[1] if found else UNKNOWN_LICENCE


def _check_bytes(spec: BackboneSpec, body: nn.Module) -> None:
    size = sum(value.numel() * 4 for value in body.parameters())
    if size > _MAX_BYTES:
        raise InvalidConfig("backbone", got=f"{spec.name} of {size:,} bytes", want=f"at most {_MAX_BYTES:,} of weights")


def _check_whole(backbone: ForeignBackbone, missing: Collection[str]) -> None:
    """Refuse a network of which the files lack weights that count: transformers would leave them random."""
    used = {id(p) for piece in range(len(backbone.pieces)) for p in backbone.piece_parameters(piece)}
    named = dict(backbone.body.named_parameters())
    # a mask token stands for patches that are hidden in pretraining; a pooler comes behind the features
    counts = [key for key in missing if id(named.get(key)) in used and not re.search(r"mask_token|^pooler\.", key)]
    if counts:
        raise InvalidConfig(
            "backbone",
            got=f"{backbone.spec.name} without {len(counts)} of its weights, such as {min(counts)}",
            want="a repository that holds the whole network",
        )


def _fetch(full: str, fetch: Fetch, repository: str, file: str) -> Path | None:
    try:
        return fetch(repository, file)
    except (OSError, ValueError) as exc:
        raise Unavailable(full, got=_first_line(exc), want=f"its file {file}", hint=_HINT) from exc


def _first_line(exc: Exception) -> str:
    return next(iter(str(exc).strip().splitlines()), type(exc).__name__)
