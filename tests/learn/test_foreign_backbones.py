from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import onnxruntime as ort
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from drivetrain.bundle.onnx_guard import check_onnx
from drivetrain.errors import InvalidConfig, MissingExtra, NotFound, Unavailable
from drivetrain.learn.backbones import load_backbone
from drivetrain.learn.batch_norm import fold_batch_norm
from drivetrain.learn.export import export_network
from drivetrain.learn.foreign_backbones import (
    ForeignBackbone,
    digest_weights,
    fetch_file,
    load_foreign_backbone,
    load_hf,
    load_timm,
)
from drivetrain.learn.network import build_network
from drivetrain.learn.trunk import BackboneSpec, open_cuts, prepare_trunk
from drivetrain.progress import SilentProgress

ABOUT = {
    "input_size": (3, 32, 32),
    "interpolation": "bicubic",
    "mean": (0.5, 0.4, 0.3),
    "std": (0.2, 0.3, 0.4),
    "hf_hub_id": "timm/tiny",
    "license": "mit",
}


class Residual(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv, self.bn, self.act = (
            nn.Conv2d(channels, channels, 3, 1, 1, bias=False),
            nn.BatchNorm2d(channels),
            nn.ReLU(),
        )

    def forward(self, x: Tensor) -> Tensor:
        return x + self.act(self.bn(self.conv(x)))


class TimmNet(nn.Module):
    """A convolutional network of timm in small: stem, stages, and a head that forward_features leaves out."""

    num_features = 8

    def __init__(self, about: dict[str, Any]) -> None:
        super().__init__()
        self.pretrained_cfg = about
        self.conv_stem, self.bn1, self.act1 = (
            nn.Conv2d(3, 4, 3, 2, 1, bias=False),
            nn.BatchNorm2d(4),
            nn.ReLU(inplace=True),
        )
        self.blocks = nn.Sequential(
            nn.Sequential(Residual(4), Residual(4)), nn.Sequential(nn.Conv2d(4, 8, 3, 2, 1), nn.ReLU(), Residual(8))
        )
        self.global_pool, self.classifier = nn.AdaptiveAvgPool2d(1), nn.Linear(8, 5)

    def forward_features(self, x: Tensor) -> Tensor:
        return self.blocks(self.act1(self.bn1(self.conv_stem(x))))


class TimmViT(nn.Module):
    """Tokens, two of them before the patches', and weights that belong to no module of their own."""

    num_features, num_prefix_tokens = 8, 2

    def __init__(self, about: dict[str, Any]) -> None:
        super().__init__()
        self.pretrained_cfg = {**about, "fixed_input_size": True}
        self.patch_embed, self.norm = nn.Conv2d(3, 8, 8, 8), nn.LayerNorm(8)
        self.tokens = nn.Parameter(torch.randn(1, 2, 8))

    def forward_features(self, x: Tensor) -> Tensor:
        x = self.patch_embed(x).flatten(2).transpose(1, 2)
        return self.norm(torch.cat([self.tokens.expand(x.shape[0], -1, -1), x], 1))


class LastChannels(TimmNet):
    def forward_features(self, x: Tensor) -> Tensor:
        return super().forward_features(x).permute(0, 2, 3, 1)


class Flat(TimmNet):
    def forward_features(self, x: Tensor) -> Tensor:
        return super().forward_features(x).mean((2, 3))


class Hub:
    """A hub of one repository in a folder; notes what it was asked for."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.asked: list[tuple[str, str]] = []

    def fetch(self, repository: str, file: str) -> Path | None:
        self.asked.append((repository, file))
        return self.folder / file if (self.folder / file).is_file() else None


def creator(kind: type[nn.Module], about: dict[str, Any] = ABOUT) -> Callable[..., nn.Module]:
    """Stands for timm.create_model: random without weights, or those of the file that the overlay names."""

    def create(model_name: str, *, pretrained: bool, **options: Any) -> nn.Module:
        if model_name != "tiny":
            raise RuntimeError(f"Unknown model ({model_name})")
        assert options.pop("num_classes") == 0
        net = kind(dict(about))
        if pretrained:
            overlay = options.pop("pretrained_cfg_overlay")
            assert overlay["custom_load"] is False
            net.load_state_dict(load_file(overlay["file"]))
        assert options == {}
        return net

    return create


def make_hub(folder: Path, kind: type[nn.Module] = TimmNet) -> Hub:
    torch.manual_seed(0)
    net = kind(ABOUT)
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.normal_()
            module.running_var.uniform_(0.5, 2.0)
    save_file(net.state_dict(), folder / "model.safetensors")
    return Hub(folder)


def load_tiny(folder: Path, kind: type[nn.Module] = TimmNet) -> ForeignBackbone:
    return load_timm("tiny", create=creator(kind), fetch=make_hub(folder, kind).fetch)


def noise(size: int = 32) -> Tensor:
    return torch.randn(2, 3, size, size, generator=torch.Generator().manual_seed(0))


def test_timm_tells_what_it_wants_of_pixels(tmp_path: Path) -> None:
    spec = load_tiny(tmp_path).spec
    assert (spec.name, spec.package, spec.size, spec.feature_count) == ("timm:tiny", "timm", 32, 8)
    assert (spec.mean, spec.std, spec.filter) == ((0.5, 0.4, 0.3), (0.2, 0.3, 0.4), "bicubic")
    assert (spec.licence, spec.is_size_fixed) == ("mit", False)
    assert spec.source == "https://huggingface.co/timm/tiny"


def test_timm_weights_are_the_hubs(tmp_path: Path) -> None:
    hub = make_hub(tmp_path)
    backbone = load_timm("tiny", create=creator(TimmNet), fetch=hub.fetch)
    saved = load_file(tmp_path / "model.safetensors")
    assert torch.equal(backbone.state_dict()["body.conv_stem.weight"], saved["conv_stem.weight"])
    assert hub.asked == [("timm/tiny", "model.safetensors")]
    assert not backbone.training
    again = load_timm("tiny", create=creator(TimmNet), fetch=hub.fetch)
    assert digest_weights(again) == digest_weights(backbone)
    with torch.no_grad():
        again.body.conv_stem.weight[0, 0, 0, 0] += 1e-3
    assert digest_weights(again) != digest_weights(backbone)


def test_a_network_in_a_row_is_parted(tmp_path: Path) -> None:
    backbone = load_tiny(tmp_path)
    assert backbone._steps == (
        ("conv_stem", "bn1", "act1"),
        ("blocks.0.0",),
        ("blocks.0.1",),
        ("blocks.1.0", "blocks.1.1"),
        ("blocks.1.2",),
    )
    assert backbone.cuts == (1, 2, 3, 4)
    with torch.inference_mode():
        whole = backbone.feature_map(noise())
        assert torch.equal(whole, backbone.body.forward_features(noise()))
        assert whole.shape == (2, 8, 8, 8)
        for cut in backbone.cuts:
            assert torch.equal(backbone.run(backbone.run(noise(), stop=cut), start=cut), whole)
    names = {id(parameter): name for name, parameter in backbone.body.named_parameters()}
    assert [names[id(p)] for p in backbone.piece_parameters(3)] == ["blocks.1.0.weight", "blocks.1.0.bias"]


def test_what_no_piece_runs_is_left_behind(tmp_path: Path) -> None:
    network = build_network(load_tiny(tmp_path), n_out=3)
    names = set(network.state_dict())
    assert "backbone.body.blocks.1.2.conv.weight" in names
    assert not [name for name in names if "classifier" in name]
    in_groups = [p for group in network.groups() for p in group]
    assert {id(p) for p in in_groups} == {id(p) for p in network.parameters()}
    assert len(network.groups()) == 4


def test_a_foreign_network_folds(tmp_path: Path) -> None:
    backbone = load_tiny(tmp_path)
    folded = fold_batch_norm(backbone)
    assert not [m for m in folded.modules() if isinstance(m, nn.BatchNorm2d)]
    with torch.inference_mode():
        for cut in (*backbone.cuts, None):
            torch.testing.assert_close(
                folded.run(noise(), stop=cut), backbone.run(noise(), stop=cut), atol=1e-5, rtol=1e-4
            )


def test_tokens_become_a_map_without_those_before_them(tmp_path: Path) -> None:
    backbone = load_tiny(tmp_path, TimmViT)
    assert (backbone.cuts, len(backbone.pieces), backbone.spec.is_size_fixed) == ((), 1, True)
    with torch.inference_mode():
        tokens = backbone.body.forward_features(noise())
        feature_map = backbone.feature_map(noise())
    assert tokens.shape == (2, 18, 8)
    assert feature_map.shape == (2, 8, 4, 4)
    assert torch.equal(feature_map[:, :, 1, 2], tokens[:, 2 + 1 * 4 + 2])
    torch.testing.assert_close(backbone.embed(feature_map), tokens[:, 2:].mean(1))
    network = build_network(backbone, n_out=3)
    assert len(network.groups()) == 4
    assert sum(len(group) for group in network.groups()) == len(list(network.parameters()))


def test_channels_that_come_last_are_brought_forward(tmp_path: Path) -> None:
    about = {**ABOUT, "input_size": (3, 48, 48)}
    backbone = load_timm("tiny", create=creator(LastChannels, about), fetch=make_hub(tmp_path).fetch)
    assert backbone.cuts == ()
    with torch.inference_mode():
        feature_map = backbone.feature_map(noise(48))
        assert torch.equal(feature_map, TimmNet.forward_features(backbone.body, noise(48)))
    assert feature_map.shape == (2, 8, 12, 12)


def test_features_without_a_place_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidConfig, match=r"timm:tiny, whose last features are \(2, 8\); want a map \(n, 8, h, w\)"):
        load_tiny(tmp_path, Flat)


def test_pickled_weights_are_not_opened(tmp_path: Path) -> None:
    torch.save(TimmNet(ABOUT).state_dict(), tmp_path / "pytorch_model.bin")
    hub = Hub(tmp_path)
    with pytest.raises(Unavailable, match=r"no model\.safetensors in timm/tiny; want weights as safetensors"):
        load_timm("tiny", create=creator(TimmNet), fetch=hub.fetch)
    assert {file for _, file in hub.asked} == {"model.safetensors", "open_clip_model.safetensors"}
    pickled = {**ABOUT, "hf_hub_filename": "pytorch_model.bin"}
    with pytest.raises(Unavailable, match="want weights as safetensors"):
        load_timm("tiny", create=creator(TimmNet, pickled), fetch=hub.fetch)


def test_weights_of_another_name_are_found(tmp_path: Path) -> None:
    hub = make_hub(tmp_path)
    (tmp_path / "model.safetensors").rename(tmp_path / "other.safetensors")
    about = {**ABOUT, "hf_hub_filename": "other.safetensors"}
    load_timm("tiny", create=creator(TimmNet, about), fetch=hub.fetch)
    assert hub.asked == [("timm/tiny", "other.safetensors")]


def test_a_hub_out_of_reach_tells_what_to_do() -> None:
    def fetch(repository: str, file: str) -> Path | None:
        raise ConnectionError("no route to the hub\nat all")

    want = r"timm:tiny: got no route to the hub; want its file model\.safetensors\. .*can the hub be reached from here"
    with pytest.raises(Unavailable, match=want):
        load_timm("tiny", create=creator(TimmNet), fetch=fetch)


@pytest.mark.parametrize(
    ("about", "message"),
    [
        ({**ABOUT, "interpolation": "random"}, "got the filter 'random'; want one of nearest"),
        ({**ABOUT, "input_size": (3, 32, 48)}, r"got pixels \(3, 32, 48\); want a square of three channels"),
        ({**ABOUT, "input_size": (1, 32, 32)}, "want a square of three channels"),
    ],
)
def test_a_preprocessing_that_is_not_ours_is_refused(tmp_path: Path, about: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidConfig, match=message):
        load_timm("tiny", create=creator(TimmNet, about), fetch=make_hub(tmp_path).fetch)


def test_a_licence_that_nothing_tells_is_unknown(tmp_path: Path) -> None:
    about = {key: value for key, value in ABOUT.items() if key != "license"}
    assert load_timm("tiny", create=creator(TimmNet, about), fetch=make_hub(tmp_path).fetch).spec.licence == "unknown"


def test_a_name_timm_does_not_have(tmp_path: Path) -> None:
    with pytest.raises(
        InvalidConfig, match=r"got timm:giant; want a name that timm\.list_models\(\) has.*Unknown model"
    ):
        load_timm("giant", create=creator(TimmNet), fetch=Hub(tmp_path).fetch)


def test_a_network_too_large_for_a_bundle_is_refused(tmp_path: Path) -> None:
    class Large(TimmNet):
        def parameters(self, recurse: bool = True) -> Any:
            return [torch.empty(300_000_000, device="meta")]

    with pytest.raises(InvalidConfig, match="timm:tiny of 1,200,000,000 bytes; want at most 900,000,000"):
        load_tiny(tmp_path, Large)


@pytest.mark.parametrize(("name", "package"), [("timm:resnet18", "timm"), ("hf:microsoft/resnet-18", "transformers")])
def test_an_absent_package_is_a_missing_extra(name: str, package: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    extra = name.partition(":")[0]
    with pytest.raises(MissingExtra, match=rf"{package}.*pip install 'drivetrain\[{extra}\]'"):
        load_backbone(name)


def test_a_file_of_a_folder(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    assert fetch_file(str(tmp_path), "config.json") == tmp_path / "config.json"
    assert fetch_file(str(tmp_path), "README.md") is None


def test_a_file_of_a_hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    class Missing(Exception):
        """The repository has no such file."""

    class Unreached(Missing, OSError):
        """The hub was not reached, so nothing is known: transformers' hub makes it a kind of the former."""

    def download(repository: str, file: str) -> str:
        if file == "README.md":
            raise Missing
        if file == "config.json":
            raise Unreached
        return f"{tmp_path}/{repository}/{file}"

    errors = SimpleNamespace(LocalEntryNotFoundError=Unreached, EntryNotFoundError=Missing)
    monkeypatch.setitem(sys.modules, "huggingface_hub", SimpleNamespace(hf_hub_download=download, errors=errors))
    assert fetch_file("org/net", "model.safetensors") == tmp_path / "org" / "net" / "model.safetensors"
    assert fetch_file("org/net", "README.md") is None
    with pytest.raises(Unreached):
        fetch_file("org/net", "config.json")


def test_timm_is_asked_by_its_own_function(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "timm", SimpleNamespace(create_model=creator(TimmNet)))
    with pytest.raises(InvalidConfig, match="got timm:giant"):
        load_backbone("timm:giant")


# -- transformers: tiny networks of random weights, saved as anybody's are

PROCESSOR = {
    "do_normalize": True, "image_mean": [0.1, 0.2, 0.3], "image_std": [0.4, 0.5, 0.6], "resample": 3,
    "do_rescale": True, "rescale_factor": 1 / 255, "do_resize": True, "size": {"height": 32, "width": 32},
}  # fmt: skip
CARD = "---\nlanguage: en\nlicense: apache-2.0\n---\n\n# A card\n\nlicense: not this\n"


def save_network(folder: Path, kind: str, *, processor: dict[str, Any] | None = None) -> str:
    """A network of transformers in a folder, its name as a backbone."""
    transformers = pytest.importorskip("transformers")
    options: dict[str, Any] = {
        "ResNet": {"embedding_size": 4, "hidden_sizes": [4, 8], "depths": [1, 2], "layer_type": "basic"},
        "ConvNext": {"hidden_sizes": [4, 8], "depths": [1, 1], "num_stages": 2},
        "ViT": {
            "hidden_size": 8, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 16,
            "image_size": 32, "patch_size": 8,
        },
    }[kind]  # fmt: skip
    torch.manual_seed(0)
    network = getattr(transformers, f"{kind}Model")(getattr(transformers, f"{kind}Config")(**options))
    network.save_pretrained(folder)
    (folder / "preprocessor_config.json").write_text(json.dumps(PROCESSOR if processor is None else processor))
    (folder / "README.md").write_text(CARD)
    return f"hf:{folder}"


@pytest.mark.parametrize(
    ("kind", "feature_count", "side", "first_cuts"),
    [("ResNet", 8, 4, (1, 2)), ("ConvNext", 8, 4, (1, 2)), ("ViT", 8, 4, (1, 2))],
)
def test_networks_of_transformers(
    tmp_path: Path, kind: str, feature_count: int, side: int, first_cuts: tuple[int, ...]
) -> None:
    name = save_network(tmp_path / "net", kind)
    backbone = load_backbone(name)
    assert isinstance(backbone, ForeignBackbone)
    spec = backbone.spec
    assert (spec.name, spec.source, spec.licence, spec.feature_count) == (
        "hf:net",
        "hf:net",
        "apache-2.0",
        feature_count,
    )
    assert (spec.size, spec.mean, spec.std, spec.filter) == (32, (0.1, 0.2, 0.3), (0.4, 0.5, 0.6), "bicubic")
    assert spec.is_size_fixed is (kind == "ViT")
    assert backbone.cuts[:2] == first_cuts
    with torch.inference_mode():
        whole = backbone.feature_map(noise())
        last = backbone.body(pixel_values=noise()).last_hidden_state
        expected = last[:, 1:].transpose(1, 2).reshape(2, 8, 4, 4) if kind == "ViT" else last
        torch.testing.assert_close(whole, expected)
        for cut in backbone.cuts:
            torch.testing.assert_close(backbone.run(backbone.run(noise(), stop=cut), start=cut), whole)
    assert whole.shape == (2, feature_count, side, side)
    network = build_network(backbone, n_out=2)
    assert not [name for name in network.state_dict() if "pooler" in name]
    assert {id(p) for group in network.groups() for p in group} == {id(p) for p in network.parameters()}


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["ResNet", "ConvNext", "ViT"])
def test_networks_of_transformers_are_written(tmp_path: Path, kind: str) -> None:
    name = save_network(tmp_path / "net", kind)
    trunk = prepare_trunk(name, size=None, cache_dir=tmp_path, progress=SilentProgress())
    network = build_network(load_backbone(name), n_out=2)
    cut = min(network.backbone.layout.head_pieces, default=network.backbone.cuts[-1])
    pixels = noise()
    kept = _run(open_cuts(trunk, [cut]), pixels)[-1]
    with torch.inference_mode():
        np.testing.assert_allclose(
            network.run_from(torch.from_numpy(kept), cut).numpy(), network(pixels).numpy(), atol=1e-4
        )
        for parameter in network.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
    network.cut = cut
    data = export_network(network, size=32, trunk=trunk.model)
    assert data == export_network(network, size=32)
    check_onnx(data)
    with torch.inference_mode():
        for got, expected in zip(_run(data, pixels), network.outputs(pixels), strict=True):
            np.testing.assert_allclose(got, expected.numpy(), atol=1e-3)


def _run(model: bytes, pixels: Tensor) -> list[np.ndarray]:
    return ort.InferenceSession(model, providers=["CPUExecutionProvider"]).run(None, {"pixels": pixels.numpy()})


class _Sayings(SilentProgress):
    def __init__(self) -> None:
        self.said: list[str] = []

    def say(self, message: str) -> None:
        self.said.append(message)


def test_a_trunk_of_a_folder_is_kept_and_its_licence_told(tmp_path: Path) -> None:
    name = save_network(tmp_path / "my net", "ResNet")
    (tmp_path / "my net" / "README.md").unlink()
    heard = _Sayings()
    trunk = prepare_trunk(name, size=None, cache_dir=tmp_path / "cache", progress=heard)
    assert trunk.weights_digest == digest_weights(load_backbone(name))
    assert trunk.model.name == f"hf_my_net-32-{trunk.weights_digest[:16]}-v3.onnx"
    assert trunk.model.parent == tmp_path / "cache" / "trunks"
    assert (trunk.name, trunk.filter, trunk.licence) == ("hf:my net", "bicubic", "unknown")
    assert str(tmp_path) not in repr(trunk.name)
    assert [line for line in heard.said if line.startswith("Nothing tells the licence of hf:my net")]
    again = _Sayings()
    assert prepare_trunk(name, size=None, cache_dir=tmp_path / "cache", progress=again) == trunk
    assert not [line for line in again.said if "exporting" in line]


@pytest.mark.parametrize(
    ("changes", "spec"),
    [
        ({"do_normalize": False}, {"mean": (0.0, 0.0, 0.0), "std": (1.0, 1.0, 1.0)}),
        ({"size": {"shortest_edge": 40}, "crop_size": 32, "do_center_crop": True}, {"size": 32}),
        ({"size": {"shortest_edge": 40}, "crop_size": {"height": 32, "width": 32}}, {"size": 40}),
        ({"size": 64}, {"size": 64}),
        ({"resample": 2}, {"filter": "bilinear"}),
    ],
)
def test_the_processor_is_read(tmp_path: Path, changes: dict[str, Any], spec: dict[str, Any]) -> None:
    found = load_backbone(save_network(tmp_path, "ResNet", processor={**PROCESSOR, **changes})).spec
    assert {key: getattr(found, key) for key in spec} == spec


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"rescale_factor": 1 / 127.5}, "a preprocessing of another kind; want RGB / 255"),
        ({"do_rescale": False}, "a preprocessing of another kind"),
        ({"do_flip_channel_order": True}, "a preprocessing of another kind"),
        ({"image_mean": [0.5]}, "a preprocessing of another kind"),
        ({"resample": 5}, "got the filter ''"),
        ({"size": {"longest_edge": 30}}, "without 'shortest_edge'"),
        ({"size": "large"}, "damaged"),
    ],
)
def test_a_processor_that_is_not_ours_is_refused(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidConfig, match=message):
        load_backbone(save_network(tmp_path, "ResNet", processor={**PROCESSOR, **changes}))


def test_a_folder_without_a_processor(tmp_path: Path) -> None:
    name = save_network(tmp_path, "ResNet")
    (tmp_path / "preprocessor_config.json").unlink()
    with pytest.raises(NotFound, match=r"no preprocessor_config\.json.*processor\.save_pretrained"):
        load_backbone(name)


def test_a_folder_with_pickled_weights_alone(tmp_path: Path) -> None:
    name = save_network(tmp_path, "ResNet")
    torch.save(load_file(tmp_path / "model.safetensors"), tmp_path / "pytorch_model.bin")
    (tmp_path / "model.safetensors").unlink()
    with pytest.raises(Unavailable, match=r"want config\.json and model\.safetensors"):
        load_backbone(name)


def test_code_of_a_repository_is_not_run(tmp_path: Path) -> None:
    name = save_network(tmp_path, "ResNet")
    config = json.loads((tmp_path / "config.json").read_text())
    config |= {"model_type": "own", "auto_map": {"AutoConfig": "own.Config", "AutoModel": "own.Model"}}
    (tmp_path / "config.json").write_text(json.dumps(config))
    (tmp_path / "own.py").write_text("raise SystemExit('I was run')")
    with pytest.raises(InvalidConfig, match="want a network transformers has"):
        load_backbone(name)


def test_a_network_of_words_is_refused(tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers")
    config = transformers.BertConfig(hidden_size=8, num_hidden_layers=1, num_attention_heads=2, intermediate_size=8)
    transformers.BertModel(config).save_pretrained(tmp_path)
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(PROCESSOR))
    with pytest.raises(InvalidConfig, match="want a network that takes RGB pictures"):
        load_backbone(f"hf:{tmp_path}")


def test_a_size_the_network_does_not_take(tmp_path: Path) -> None:
    name = save_network(tmp_path, "ViT", processor={**PROCESSOR, "size": 40})
    with pytest.raises(InvalidConfig, match="which fails on pictures of 40 pixels"):
        load_backbone(name)


def test_a_repository_that_is_nowhere(tmp_path: Path) -> None:
    pytest.importorskip("transformers")
    with pytest.raises(Unavailable, match="want its file preprocessor_config"):
        load_foreign_backbone(f"hf:{tmp_path / 'no-such-folder' / 'at' / 'all'}")  # a name no hub can have


def test_loading_is_given_what_makes_it_safe(tmp_path: Path) -> None:
    given: dict[str, Any] = {}

    def load(repository: str, **options: Any) -> nn.Module:
        given.update(options)
        raise OSError("stop here")

    (tmp_path / "preprocessor_config.json").write_text(json.dumps(PROCESSOR))
    with pytest.raises(Unavailable, match="stop here"):
        load_hf(str(tmp_path), load=load, fetch=fetch_file)
    assert (given["trust_remote_code"], given["use_safetensors"], given["dtype"]) == (False, True, torch.float32)


def test_a_network_with_weights_left_out_is_refused(tmp_path: Path) -> None:
    name = save_network(tmp_path, "ViT")
    weights = load_file(tmp_path / "model.safetensors")
    save_file({k: v for k, v in weights.items() if "pooler" not in k}, tmp_path / "model.safetensors", {"format": "pt"})
    load_backbone(name)  # nobody asks the pooler
    lacking = {k: v for k, v in weights.items() if not k.startswith("layernorm")}
    save_file(lacking, tmp_path / "model.safetensors", {"format": "pt"})
    with pytest.raises(InvalidConfig, match=r"without 2 of its weights, such as layernorm\.bias"):
        load_backbone(name)


def test_tokens_that_make_no_square(tmp_path: Path) -> None:
    spec = BackboneSpec(name="odd", package="", size=32, feature_count=8)
    body = TimmViT(ABOUT)
    with pytest.raises(InvalidConfig, match=r"odd, whose last features are \(2, 18, 8\); want"):
        ForeignBackbone(spec, body, lambda net, x: net.forward_features(x), prefix=3)
    found = ForeignBackbone(spec, body, lambda net, x: net.forward_features(x))
    assert found._prefix == 2  # what is left of a square
