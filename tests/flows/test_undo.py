from __future__ import annotations

from pathlib import Path

import pytest

from drivetrain.data.edits import Change, append_edits, read_journal
from drivetrain.errors import InvalidConfig, NotFound
from drivetrain.flows.undo import describe_batches, undo


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Three batches: two pictures left out by ann, one relabelled by bo, one of the first again by ann."""
    leave_out = [Change(action="quarantine", path=f"a/{number}.jpg", old="a") for number in (1, 2)]
    append_edits(tmp_path, leave_out, by="ann")
    append_edits(tmp_path, [Change(action="relabel", path="a/1.jpg", old="a", new="b")], by="bo")
    append_edits(tmp_path, [Change(action="relabel", path="a/3.jpg", old="a", new="b")], by="ann")
    return tmp_path


def in_force(data: Path) -> list[tuple[str, str]]:
    return [(edit.change.action, edit.change.path) for edit in read_journal(data).in_force()]


ALL = [("quarantine", "a/1.jpg"), ("quarantine", "a/2.jpg"), ("relabel", "a/1.jpg"), ("relabel", "a/3.jpg")]


def test_undo_goes_back_a_batch_at_a_time(data: Path) -> None:
    assert in_force(data) == ALL
    for left in (3, 2, 0):
        assert undo(data, by="jo").n_in_force == left
        assert in_force(data) == ALL[:left]
    with pytest.raises(NotFound, match=r"undo: got none in .*jsonl; want an edit that holds\. --list shows"):
        undo(data)


def test_undo_of_a_batch_and_of_that_undo(data: Path) -> None:
    batch = next(iter(read_journal(data).batches()))
    done = undo(data, batch=batch, by="jo")
    assert in_force(data) == ALL[2:]
    assert [edit.change.path for edit in done.undone] == ["a/1.jpg", "a/2.jpg"]
    plain = done.as_json()
    assert (plain["in_force"], plain["batch"], len(plain["undone"])) == (2, done.written[0].batch, 2)
    with pytest.raises(NotFound, match=f"want an edit of batch {batch} that still holds"):
        undo(data, batch=batch)
    undo(data, batch=done.written[0].batch)
    assert in_force(data) == ALL
    with pytest.raises(NotFound, match="--batch: got nope; want a batch of"):
        undo(data, batch="nope")


def test_undo_of_a_picture_and_of_all(data: Path) -> None:
    assert len(undo(data, path="a/1.jpg").undone) == 2
    assert in_force(data) == [ALL[1], ALL[3]]
    with pytest.raises(NotFound, match=r"want an edit of a/1\.jpg that holds; paths start from DATA"):
        undo(data, path="a/1.jpg")
    assert len(undo(data, path="./a//2.jpg").undone) == 1
    assert len(undo(data, everything=True).undone) == 1
    assert in_force(data) == []


def test_the_list_says_what_holds(data: Path) -> None:
    undo(data, by="jo")
    rows = describe_batches(data)
    assert [(row["by"], row["actions"], row["n"], row["n_in_force"]) for row in rows] == [
        ("ann", {"quarantine": 2}, 2, 2),
        ("bo", {"relabel": 1}, 1, 1),
        ("ann", {"relabel": 1}, 1, 0),
        ("jo", {"undo": 1}, 1, 1),
    ]


def test_one_choice_at_most_and_a_folder(data: Path) -> None:
    with pytest.raises(InvalidConfig, match="undo: got several of --batch, --path and --all; want at most one"):
        undo(data, path="a/1.jpg", everything=True)
    with pytest.raises(NotFound, match=r"DATA: got .*; want a folder of pictures"):
        undo(data / "nowhere")
    assert in_force(data) == ALL
