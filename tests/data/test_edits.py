from __future__ import annotations

import json
import os
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from drivetrain.data.edits import JOURNAL_FILE, Change, append_edits, read_journal, undo_edits
from drivetrain.data.items import read_items
from drivetrain.errors import InvalidInput, Unavailable

NOON = datetime(2026, 5, 3, 12, tzinfo=UTC)
PATHS = ("a/1.jpg", "a/2.jpg", "b/1.jpg", "b/2.jpg")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    for path in PATHS:
        (tmp_path / path).parent.mkdir(exist_ok=True)
        (tmp_path / path).touch()
    return tmp_path


def leave_out(*paths: str, reason: str = "") -> list[Change]:
    return [Change(action="quarantine", path=path, old=path[0], reason=reason) for path in paths]


def relabel(path: str, new: str, old: str | None = None) -> Change:
    return Change(action="relabel", path=path, old=old or path[0], new=new)


def test_no_journal_is_an_empty_one(root: Path) -> None:
    journal = read_journal(root)
    assert (journal.edits, journal.cut_short, journal.batches()) == ((), (), {})
    assert append_edits(root, []) == ()
    assert not (root / JOURNAL_FILE).exists()


def test_a_line_says_who_when_what_and_why(root: Path) -> None:
    append_edits(root, [*leave_out("a/1.jpg", reason="blurred"), relabel("b/1.jpg", "a")], by="ann", clock=lambda: NOON)
    first, second = (json.loads(line) for line in (root / JOURNAL_FILE).read_text().splitlines())
    batch = first["batch"]
    common = {"time": "2026-05-03T12:00:00+00:00", "by": "ann", "batch": batch}
    wanted = {"path": "a/1.jpg", "action": "quarantine", "from": "a", "to": None, "reason": "blurred"}
    assert first == common | wanted | {"id": f"{batch}-1"}
    assert second == common | {"path": "b/1.jpg", "action": "relabel", "from": "b", "to": "a", "id": f"{batch}-2"}


def test_who_is_the_user_unless_told(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("LOGNAME", "USER", "LNAME", "USERNAME"):
        monkeypatch.setenv(name, "maria")
    assert append_edits(root, leave_out("a/1.jpg"))[0].by == "maria"
    assert append_edits(root, leave_out("a/2.jpg"), by="jo")[0].by == "jo"


def test_every_reader_applies_the_edits(root: Path) -> None:
    append_edits(root, [*leave_out("a/1.jpg", reason="dark"), relabel("b/1.jpg", "a"), relabel("b/2.jpg", "c")])
    items = read_items(root)
    assert {item.path: item.label for item in items} == {"a/2.jpg": "a", "b/1.jpg": "a", "b/2.jpg": "c"}
    assert items.classes == ("a", "c")
    assert items.quarantined == (("a/1.jpg", "dark"),)
    assert items.relabelled == ("b/1.jpg", "b/2.jpg")
    assert items.others == 0  # the journal is no stray file
    assert items.note_left_out() == [
        "Left out by edits of the journal: 1 picture. `drivetrain undo` brings them back.",
        "Relabelled by edits of the journal: 2 pictures.",
    ]
    assert all((root / path).is_file() for path in PATHS)


def test_the_labels_file_is_edited_too(root: Path) -> None:
    (root / "labels.csv").write_text("path,label,group,split\na/1.jpg,x,g,test\na/2.jpg,y,,\nb/1.jpg,y,,\n")
    append_edits(root, [relabel("a/1.jpg", "y", old="x"), *leave_out("b/1.jpg")])
    items = read_items(root)
    assert [(item.path, item.label, item.group, item.split) for item in items] == [
        ("a/1.jpg", "y", "g", "test"),
        ("a/2.jpg", "y", None, None),
    ]


def test_edits_of_pictures_that_are_gone_are_told(root: Path) -> None:
    append_edits(root, leave_out("a/1.jpg", "a/9.jpg", "z/1.jpg"))
    assert read_items(root).note_left_out() == [
        "Left out by edits of the journal: 1 picture. `drivetrain undo` brings them back.",
        "The journal edits 2 pictures no longer there or without a label, such as a/9.jpg.",
    ]


def test_a_label_that_the_data_changed_since_is_told(root: Path) -> None:
    append_edits(root, [relabel("a/1.jpg", "c", old="b")])
    items = read_items(root)
    assert items.items[0].label == "c"
    assert items.note_left_out()[-1] == (
        "The data itself has since given 1 relabelled picture another label, such as a/1.jpg; the journal goes first. "
        "`drivetrain undo DATA --path PATH` takes its word back."
    )


def test_all_left_out_is_an_error_that_names_undo(root: Path) -> None:
    append_edits(root, leave_out(*PATHS))
    with pytest.raises(
        InvalidInput, match=r"got 4 pictures in .*, all left out by drivetrain\.edits\.jsonl; want pict"
    ):
        read_items(root)


def test_an_undo_can_be_undone(root: Path) -> None:
    edits = append_edits(root, [relabel("a/1.jpg", "b"), *leave_out("a/2.jpg")])
    undone = undo_edits(root, edits, by="jo")
    assert [(edit.change.action, edit.change.path, edit.change.undoes) for edit in undone] == [
        ("undo", "a/2.jpg", edits[1].id),
        ("undo", "a/1.jpg", edits[0].id),
    ]
    assert read_journal(root).in_force() == ()
    undo_edits(root, undone[1:])
    assert read_journal(root).in_force() == edits[:1]
    assert len(read_items(root)) == 4


@given(
    steps=st.lists(
        st.tuples(st.sampled_from(("out", "label", "undo")), st.integers(0, 3), st.integers(0, 30)), max_size=14
    )
)
def test_any_sequence_of_edits_and_undos_replays(
    steps: list[tuple[str, int, int]], tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Against the plainest reading: an edit holds unless an undo that holds, after it, names it."""
    root = tmp_path_factory.mktemp("data")
    written = []
    for kind, at, number in steps:
        if kind == "undo":
            written += undo_edits(root, [written[number % len(written)]]) if written else []
        else:
            change = leave_out(PATHS[at])[0] if kind == "out" else relabel(PATHS[at], f"new{number}")
            written += append_edits(root, [change])
    journal = read_journal(root)
    assert list(journal.edits) == written

    def holds(index: int) -> bool:
        later = range(index + 1, len(written))
        return not any(written[one].change.undoes == written[index].id and holds(one) for one in later)

    labels: dict[str, str | None] = {}
    out = set()
    for index, edit in enumerate(written):
        if edit.change.action != "undo" and holds(index):
            if edit.change.action == "relabel":
                labels[edit.change.path] = edit.change.new
            else:
                out.add(edit.change.path)
    assert journal.quarantined().keys() == out
    assert {path: edit.change.new for path, edit in journal.relabelled().items()} == labels


@pytest.mark.parametrize("cut", [1, 30, -2])
def test_a_line_that_a_killed_writer_left_is_named_and_ignored(root: Path, cut: int) -> None:
    append_edits(root, leave_out("a/1.jpg"))
    file = root / JOURNAL_FILE
    whole = file.read_bytes()
    file.write_bytes(whole + whole.replace(b"1.jpg", "ä.jpg".encode())[:cut])
    assert read_journal(root).cut_short == (2,)
    note = "drivetrain.edits.jsonl line 2 was cut short when a program was stopped; it holds no edit."
    assert note in read_items(root).note_left_out()
    append_edits(root, leave_out("b/1.jpg"))
    journal = read_journal(root)
    assert journal.cut_short == (2,)
    assert list(journal.quarantined()) == ["a/1.jpg", "b/1.jpg"]
    assert len(file.read_bytes().splitlines()) == 3


def test_a_last_line_without_its_end_holds(root: Path) -> None:
    """An editor may take the last line's end away."""
    append_edits(root, leave_out("a/1.jpg"))
    file = root / JOURNAL_FILE
    file.write_bytes(file.read_bytes().rstrip(b"\n"))
    assert list(read_journal(root).quarantined()) == ["a/1.jpg"]
    append_edits(root, leave_out("a/2.jpg"))
    assert list(read_journal(root).quarantined()) == ["a/1.jpg", "a/2.jpg"]


GOOD = {"time": "t", "by": "b", "path": "p", "action": "quarantine", "from": None, "to": None, "id": "1", "batch": "1"}


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("not json", r"line 2: got not json; want a JSON object\. Mend or remove the line"),
        ("[1]", r"line 2: got \[1\]; want a JSON object"),
        (json.dumps({**GOOD, "id": "2", "path": 3}), r"line 2, path: got 3; want text"),
        (json.dumps({**GOOD, "id": "2", "to": 3}), r"line 2, to: got 3; want text"),
        (
            json.dumps({**GOOD, "id": "2", "action": "paint"}),
            r"action: got paint; want one of quarantine, relabel, undo",
        ),
        (json.dumps({**GOOD}), r"line 2, id: got 1 again; want each id once"),
        (json.dumps({**GOOD, "id": "2", "action": "undo"}), r"undoes: got None; want the id of an edit for undo"),
        (
            json.dumps({**GOOD, "id": "2", "action": "undo", "undoes": "9"}),
            r"undoes: got 9; want the id of an edit on an",
        ),
        (
            json.dumps({**GOOD, "id": "2", "undoes": "1"}),
            r"undoes: got 1; want the id of an edit for undo, nothing else",
        ),
        (json.dumps({**GOOD, "id": "2", "action": "relabel"}), r"line 2, to: got None; want a label"),
        ("[" * 100_000, r"line 2: got \[{80}; want a JSON object"),
    ],
)
def test_a_damaged_line_is_an_error_that_names_it(line: str, told: str, root: Path) -> None:
    lines = [json.dumps(GOOD), line, json.dumps({**GOOD, "id": "3"}), ""]
    (root / JOURNAL_FILE).write_text("\n".join(lines))
    with pytest.raises(InvalidInput, match=told) as caught:
        read_items(root)
    caught.match(r"drivetrain\.edits\.jsonl line 2")


def test_fields_of_a_newer_version_and_empty_lines_are_passed_over(root: Path) -> None:
    line = json.dumps({**GOOD, "path": "a/1.jpg", "mood": "good"})
    (root / JOURNAL_FILE).write_text(f"\n{line}\r\n\n")
    assert list(read_journal(root).quarantined()) == ["a/1.jpg"]


def test_a_label_must_be_one_that_a_model_can_hold(root: Path) -> None:
    append_edits(root, [relabel("a/1.jpg", "x" * 300)])
    with pytest.raises(InvalidInput, match="want at most 255 characters"):
        read_items(root)


def test_a_journal_that_cannot_be_written_or_read(root: Path) -> None:
    (root / JOURNAL_FILE).mkdir()
    with pytest.raises(
        Unavailable, match=r"got Is a directory; want a folder that can be written\. No edit was made\."
    ):
        append_edits(root, leave_out("a/1.jpg"))
    with pytest.raises(InvalidInput, match="want a file that can be read"):
        read_journal(root)


WRITER = """
import sys
from pathlib import Path
from drivetrain.data.edits import Change, append_edits
name = sys.argv[2]
for batch in range(20):
    paths = [f"{name}/{batch}/{number}" for number in range(20)]
    append_edits(Path(sys.argv[1]), [Change(action="quarantine", path=path, reason="x" * 400) for path in paths])
"""


def test_writers_at_once_do_not_mix_their_lines(tmp_path: Path) -> None:
    writers = [subprocess.Popen([sys.executable, "-c", WRITER, str(tmp_path), str(name)]) for name in range(3)]
    assert [writer.wait(timeout=120) for writer in writers] == [0, 0, 0]
    journal = read_journal(tmp_path)
    assert len(journal.edits) == 3 * 20 * 20
    order = [edit.batch for edit in journal.edits]
    assert all(len({*order[start : start + 20]}) == 1 for start in range(0, len(order), 20))  # batches stay whole


def test_a_killed_writer_leaves_a_journal_that_reads(tmp_path: Path) -> None:
    """Killed in the middle, again and again: what was acknowledged is there, and the next writer goes on."""
    for name in range(4):
        writer = subprocess.Popen([sys.executable, "-c", WRITER, str(tmp_path), str(name)])
        while writer.poll() is None and not any(
            edit.change.path.startswith(f"{name}/1/") for edit in read_journal(tmp_path).edits
        ):
            os.sched_yield()
        writer.kill()
        writer.wait(timeout=60)
        journal = read_journal(tmp_path)
        assert any(edit.change.path.startswith(f"{name}/1/") for edit in journal.edits)
    append_edits(tmp_path, leave_out("last.jpg"))
    assert "last.jpg" in read_journal(tmp_path).quarantined()
