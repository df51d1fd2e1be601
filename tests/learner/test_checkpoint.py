from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import torch

from drivetrain.errors import InvalidConfig, InvalidInput, NotFound
from drivetrain.learn.checkpoint import CheckpointConfig, read_tree, write_tree


def test_a_tree_comes_back_as_it_was(tmp_path: Path) -> None:
    shared = torch.arange(6.0)
    tree = {
        "text": "a",
        "none": None,
        "nan": [float("inf"), 1e-300, 0.1],
        "by number": {0: {"a": (1, 2)}, 3: []},
        "looks like a mark": {"$tensor": "nothing"},
        "deep": {"list": [torch.tensor(3), torch.ones(2, 3, dtype=torch.bfloat16)]},
        "turned": torch.arange(6).reshape(2, 3).T,
        "shared": [shared, shared[2:]],
        "array": np.arange(3, dtype=np.uint64),
        "number": np.float32(0.5),
        "channels last": torch.randn(1, 2, 3, 4).to(memory_format=torch.channels_last),
    }
    path = tmp_path / "sub" / "tree.safetensors"
    write_tree(path, tree)
    back = read_tree(path)
    assert list(back) == list(tree)
    for name in ("text", "none", "nan", "by number", "looks like a mark", "number"):
        assert back[name] == tree[name]
    assert torch.equal(back["deep"]["list"][0], torch.tensor(3))
    assert back["deep"]["list"][1].dtype == torch.bfloat16
    assert torch.equal(back["turned"], tree["turned"])
    assert torch.equal(back["shared"][1], shared[2:])
    assert (back["array"] == tree["array"]).all()
    assert torch.equal(back["channels last"], tree["channels last"])
    assert [file.name for file in path.parent.iterdir()] == ["tree.safetensors"]


def test_what_cannot_be_told_plainly_is_refused_and_the_old_file_stays(tmp_path: Path) -> None:
    path = tmp_path / "tree.safetensors"
    write_tree(path, {"a": 1})
    with pytest.raises(InvalidInput, match=r"cbs/0: got a set; want tensors.*Nothing is pickled"):
        write_tree(path, {"cbs": [{1, 2}]})
    assert read_tree(path) == {"a": 1}
    assert len(list(tmp_path.iterdir())) == 1


def test_files_that_are_not_ours(tmp_path: Path) -> None:
    with pytest.raises(NotFound, match="no such file"):
        read_tree(tmp_path / "none.safetensors")
    other = tmp_path / "other.safetensors"
    safetensors.torch.save_file({"a": torch.ones(1)}, other)
    with pytest.raises(InvalidInput, match=r"other\.safetensors: got a file that cannot be read as ours: KeyError"):
        read_tree(other)
    write_tree(other, {"a": torch.ones(100)})
    other.write_bytes(other.read_bytes()[:-50])
    with pytest.raises(InvalidInput, match="SafetensorError"):
        read_tree(other)
    plain = json.dumps({"a": {"$tensor": "gone"}})
    safetensors.torch.save_file({"b": torch.ones(1)}, other, metadata={"drivetrain": plain})
    with pytest.raises(InvalidInput, match="KeyError: 'gone'"):
        read_tree(other)


@pytest.mark.parametrize(
    "options", [{"name": ""}, {"name": "a/b"}, {"every_s": -1}, {"every_s": float("nan")}, {"every_batches": 0}]
)
def test_a_configuration_that_makes_no_sense(options: dict[str, Any]) -> None:
    with pytest.raises(InvalidConfig, match=f"checkpoint.{next(iter(options))}"):
        CheckpointConfig(**options)
