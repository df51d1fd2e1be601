from __future__ import annotations

import html
import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from drivetrain.data.datasheet import (
    DATASHEET_FILE,
    QUESTIONS,
    find_open_questions,
    read_datasheet,
    update_datasheet,
    write_datasheet,
)
from drivetrain.data.items import Item
from drivetrain.data.lineage import digest_items


def sheet(
    train: dict[str, int] | None = None, valid: dict[str, int] | None = None, *, unreadable: int = 0, path: str = "x"
) -> str:
    counts = {"train": train or {"cat": 30, "dog": 8}, "valid": valid or {"cat": 10, "dog": 2}}
    return write_datasheet("pets", counts=counts, unreadable=[(path, "cut short")] * unreadable)


def test_counts_and_questions() -> None:
    text = sheet({"cat": 3000, "dog": 8}, {"cat": 1000, "dog": 2})
    assert text.startswith("# Datasheet of the pictures behind pets\n")
    assert "| cat | 3,000 | 1,000 |\n| dog | 8 | 2 |\n" in text
    assert "4,010 pictures in 2 classes; the largest, cat, has 400.0 times the pictures of the smallest, dog." in text
    assert [line.removeprefix("- ") for line in text.splitlines() if line.startswith("- ")] == list(QUESTIONS.values())


@pytest.mark.parametrize(("n", "listed"), [(0, 0), (1, 1), (100, 100), (103, 100)])
def test_unreadable_files_are_named(n: int, listed: int) -> None:
    text = sheet(unreadable=n)
    assert f"Files that could not be read and were left out: {n or 'none'}\n" in text
    assert text.count("- x: cut short\n") == listed
    assert ("- and 3 more\n" in text) is (n == 103)


@pytest.mark.parametrize(
    "name",
    [
        "a|b",
        "**a**",
        "<script>alert(1)</script>",
        "[a](javascript:b)",
        "`a`",
        "a_b_",
        "# a",
        "~~a~~",
        "&lt;",
        "a\n\n# b",
    ],
)
def test_names_cannot_mark_up(name: str) -> None:
    text = sheet({name: 8, "dog": 8}, {name: 2, "dog": 2}, unreadable=1, path=name)
    rows = [line for line in text.splitlines() if line.endswith("| 8 | 2 |")]
    assert len(rows) == 2
    cell = rows[0].removeprefix("| ").removesuffix(" | 8 | 2 |")
    assert "<" not in text
    assert not re.search(r"(?<!\\)[`*_\[\]|#~]", cell)
    assert html.unescape(re.sub(r"\\(.)", r"\1", cell)) == " ".join(name.split())
    assert f"- {cell}: cut short" in text


def test_the_digest_knows_pictures_and_labels_but_not_their_order() -> None:
    items = [(Item(path=f"{i}.jpg", label="cat"), bytes([i]) * 32) for i in range(3)]
    digest = digest_items(items)
    assert re.fullmatch("[0-9a-f]{64}", digest)
    assert digest_items(items[::-1]) == digest
    assert digest_items([*items[:2], (items[2][0], bytes(32))]) != digest
    assert digest_items([*items[:2], (Item(path="2.jpg", label="dog"), items[2][1])]) != digest
    assert digest_items(items[:2]) != digest


def begin(root: Path, measured: str = "120 pictures.") -> Path:
    state = update_datasheet(root, name="pets", measured=measured)
    assert (state.is_written, state.trouble) == (True, "")
    return root / DATASHEET_FILE


def answer(file: Path, heading: str, text: str) -> None:
    asked = f"*{QUESTIONS[heading]}*\n\n_Not answered yet._"
    assert asked in file.read_text()
    file.write_text(file.read_text().replace(asked, f"*{QUESTIONS[heading]}*\n\n{text}"))


def test_a_new_datasheet_asks_every_question_and_an_answer_closes_one(tmp_path: Path) -> None:
    file = begin(tmp_path)
    text = file.read_text()
    assert text.startswith("# Datasheet of pets\n")
    assert "\n120 pictures.\n" in text
    assert find_open_questions(text) == tuple(QUESTIONS)
    answer(file, "Consent", "No people.")
    assert find_open_questions(file.read_text()) == tuple(one for one in QUESTIONS if one != "Consent")
    state = update_datasheet(tmp_path, name="pets", measured="121 pictures.")
    assert state.open_questions == tuple(one for one in QUESTIONS if one != "Consent")
    assert file.read_text().count("121 pictures.") == 1
    assert "120 pictures." not in file.read_text()
    assert "No people." in file.read_text()
    assert not update_datasheet(tmp_path, name="pets", measured="121 pictures.").is_written


def test_what_a_person_wrote_reordered_or_deleted_stays(tmp_path: Path) -> None:
    file = begin(tmp_path)
    answer(file, "Uses", "Only at home.\n\n### Not\n\nAt work.")
    head, *sections = file.read_text().split("\n## ")
    kept = [section for section in sections if not section.startswith(("Motivation", "What is"))][::-1]
    file.write_text("\n## ".join([head, *kept]) + "\n# My own\n\nwords\n")
    before = file.read_text()
    state = update_datasheet(tmp_path, name="pets", measured="7 pictures.")
    assert file.read_text() == before.replace("120 pictures.", "7 pictures.")
    assert set(QUESTIONS) - set(state.open_questions) == {"Uses"}  # a question taken out has no answer either


@pytest.mark.parametrize(
    "body",
    ["", "\n \n", "_Not answered yet._", "<!-- to do\nsoon -->", "*{question}*", "{question}"],
    ids=["nothing", "space", "as it came", "a remark", "the question", "the question, plain"],
)
def test_what_is_no_answer(body: str) -> None:
    question = QUESTIONS["Uses"]
    assert "Uses" in find_open_questions(f"## Uses: and abuses\n{body.format(question=question)}\n")
    assert "Uses" not in find_open_questions(f"# USES\n{body.format(question=question)}\nAnything.\n")


def test_the_measured_part_answers_nothing(tmp_path: Path) -> None:
    file = begin(tmp_path, measured="## Uses\n\nmany")
    assert "Uses" in find_open_questions(file.read_text())
    assert "Uses" in find_open_questions("```\n## Uses\n```\nhome\n")


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig"])
def test_line_ends_and_byte_order_mark_are_kept(encoding: str, tmp_path: Path) -> None:
    file = begin(tmp_path)
    mine = file.read_text().replace("\n", "\r\n") + "B\u00e4r\r\n"
    file.write_bytes(mine.encode(encoding))
    assert update_datasheet(tmp_path, name="pets", measured="one\ntwo").is_written
    after = file.read_bytes().decode(encoding)
    assert after == mine.replace("120 pictures.", "one\r\ntwo")
    assert read_datasheet(tmp_path) == after.replace("\r\n", "\n").removeprefix("\ufeff")


@given(before=st.text(max_size=60), after=st.text(max_size=60), gone=st.booleans())
def test_a_persons_bytes_are_never_changed(
    before: str, after: str, gone: bool, tmp_path_factory: pytest.TempPathFactory
) -> None:
    root = tmp_path_factory.mktemp("sheet")
    file = root / DATASHEET_FILE
    mine = (before + "|" + after) if gone else before + begin(root).read_text() + after
    data = mine.encode("utf-8")
    file.write_bytes(data)
    update_datasheet(root, name="pets", measured="7 pictures.")
    now = file.read_bytes()
    assert b"7 pictures." in now
    assert now.startswith(data) if gone else now.startswith(before.encode()) and now.endswith(after.encode())
    assert not update_datasheet(root, name="pets", measured="7 pictures.").is_written


@pytest.mark.parametrize("damage", ["one marker", "twice", "reversed"])
def test_damaged_markers_leave_the_file_alone(damage: str, tmp_path: Path) -> None:
    file = begin(tmp_path)
    text = file.read_text()
    first, second = re.findall(r"<!--.*?-->", text)
    changed = {
        "one marker": text.replace(second, ""),
        "twice": text + text,
        "reversed": text.replace(first, "@").replace(second, first).replace("@", second),
    }[damage]
    file.write_text(changed)
    state = update_datasheet(tmp_path, name="pets", measured="7 pictures.")
    assert not state.is_written
    assert re.fullmatch(
        r"datasheet\.md has \d begin and \d end markers of the measured part, want one of each in this order; it is "
        r"left as it is\. Mend them, or remove them all for a new part at the end\.",
        state.trouble,
    )
    assert file.read_text() == changed


def test_a_file_that_is_no_text_or_cannot_be_written_is_told(tmp_path: Path) -> None:
    file = tmp_path / DATASHEET_FILE
    file.write_bytes(b"\xff\xfe")
    state = update_datasheet(tmp_path, name="pets", measured="x")
    assert (state.is_written, state.trouble) == (False, "datasheet.md: not UTF-8 text; it is left as it is")
    assert file.read_bytes() == b"\xff\xfe"
    assert read_datasheet(tmp_path) is None
    file.write_bytes(b"x" * 1_000_001)
    assert "1,000,001 bytes, and at most 1,000,000" in update_datasheet(tmp_path, name="p", measured="x").trouble
    file.unlink()
    file.mkdir()
    state = update_datasheet(tmp_path, name="pets", measured="x")
    assert (state.is_written, state.trouble) == (False, "datasheet.md: Is a directory")
    gone = update_datasheet(tmp_path / DATASHEET_FILE / "x.txt", name="p", measured="x")
    assert gone.open_questions == tuple(QUESTIONS)


def test_a_link_is_written_through(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "elsewhere.md").write_text("mine\n")
    (tmp_path / "data" / DATASHEET_FILE).symlink_to(tmp_path / "elsewhere.md")
    assert update_datasheet(tmp_path / "data", name="pets", measured="x").is_written
    assert (tmp_path / "data" / DATASHEET_FILE).is_symlink()
    assert (tmp_path / "elsewhere.md").read_text().startswith("mine\n")


def test_the_models_datasheet_holds_the_answers_and_what_is_still_open() -> None:
    counts = {"train": {"cat": 3, "dog": 8}, "valid": {"cat": 1, "dog": 2}}
    beside = "# Datasheet of pets\n\n## Uses\n\nAt home.\n\n```\n# code\n"
    text = write_datasheet("pets", counts=counts, unreadable=[], beside=beside)
    assert "## From datasheet.md beside the pictures\n\n## Datasheet of pets\n\n### Uses\n\nAt home.\n" in text
    assert "\n# code\n```\n" in text  # an open fence is closed, or it would swallow the rest
    assert f"- {QUESTIONS['Uses']}" not in text
    assert f"- {QUESTIONS['Consent']}" in text
    everything = "".join(f"## {heading}\n\nyes\n" for heading in QUESTIONS)
    assert "nobody" not in write_datasheet("pets", counts=counts, unreadable=[], beside=everything)
