import ast
import datetime
import json
import re
import shlex

import numpy as np
import pytest

from drivetrain.inspect.model_card import ModelCard, write_model_card
from drivetrain.trust.evaluation import evaluate_predictions

NOON = datetime.datetime(2026, 5, 3, 12, tzinfo=datetime.UTC)


def make_card(classes: tuple[str, ...] = ("cat", "dog"), **changes: object) -> ModelCard:
    probs = np.array([[0.9, 0.1], [0.8, 0.2], [0.3, 0.7], [0.6, 0.4]])
    evaluation = evaluate_predictions(
        probs,
        np.array([0, 0, 1, 1]),
        classes=classes,
        accepted=np.array([True, True, True, False]),
        flagged=np.array([False, False, False, True]),
    )
    parts: dict[str, object] = {
        "name": "pets",
        "created_at": NOON,
        "evaluation": evaluation,
        "policy_statement": "Decides alone at 70 % or more.",
        "backbone": "efficientnet_lite0 (ImageNet, Apache-2.0)",
        "counts": {"train": {classes[0]: 1200, classes[1]: 30}, "valid": {classes[0]: 2, classes[1]: 2}},
    }
    return ModelCard(**(parts | changes))  # type: ignore[arg-type]


def front_matter(card: str) -> dict[str, str]:
    """The `key: value` lines of the block between the first two fences, read as flat as they are written."""
    opening, block, _ = card.split("---\n", 2)
    assert opening == ""
    return dict(line.strip("- ").split(": ", 1) for line in block.splitlines() if ": " in line)


def table(card: str, heading: str) -> list[list[str]]:
    section = card.split(f"\n## {heading}\n")[1].split("\n## ", maxsplit=1)[0]
    rows = [line for line in section.splitlines() if line.startswith("| ")]
    return [[cell.strip() for cell in re.split(r"(?<!\\)\|", row)[1:-1]] for row in rows]


def test_front_matter_is_what_hugging_face_reads() -> None:
    card = write_model_card(make_card(base_model="google/efficientnet-lite0"))
    matter = front_matter(card)
    assert matter["license"] == '"other"'
    assert matter["library_name"] == "drivetrain"
    assert matter["pipeline_tag"] == "image-classification"
    assert json.loads(matter["base_model"]) == "google/efficientnet-lite0"
    assert "    - type: accuracy\n      value: 0.7500\n" in card
    assert "base_model" not in front_matter(write_model_card(make_card()))


@pytest.mark.parametrize(
    "name", ['a: "b"', "x\n---\nlicense: mit", "\\", "é", "'", "- a", "#", "\x85\u2028\x7f", "\x00"]
)
def test_front_matter_quotes_any_name(name: str) -> None:
    card = write_model_card(make_card(name=name, dataset=name, license=name))
    matter = front_matter(card)
    assert json.loads(matter["license"]) == name
    assert json.loads(matter["name"]) == name
    assert matter["library_name"] == "drivetrain"
    assert not re.search("[\x7f-\x9f\u2028]", card.split("---\n", 2)[1])


def test_tells_counts_by_class_and_split() -> None:
    card = write_model_card(make_card(n_unreadable=3))
    assert table(card, "Data") == [
        ["class", "train", "valid"],
        ["---"] * 3,
        ["cat", "1,200", "2"],
        ["dog", "30", "2"],
        ["**all**", "1,230", "4"],
    ]
    assert "left out: 3." in card


def test_tells_every_class_with_its_intervals() -> None:
    card = write_model_card(make_card()).replace("\N{NO-BREAK SPACE}", " ")
    assert "**75.0 % of 4 pictures it had never seen** were named right (95 % interval 30.1 to 95.4 %)" in card
    _, _, cat, dog = table(card, "Evaluation")
    assert cat == ["cat", "2", "100 % (34.2 to 100)", "66.7 % (20.8 to 93.9)", "0.80"]
    assert dog[:3] == ["dog", "2", "50.0 % (9.5 to 90.5)"]
    assert "Decides alone at 70 % or more." in card
    assert "It decided 3 of these 4 pictures alone, 75.0 %" in card
    assert "Of those it decided, 0 were wrong: 0 % (0 to 56.1)." in card
    assert "It took 1 of all, 25.0 %, for something it does not know." in card


def test_few_pictures_have_no_drawn_interval() -> None:
    card = write_model_card(make_card())
    assert re.search(r"log loss 0\.\d{3}, Brier score 0\.\d{3}, calibration", card)
    probs = np.tile([[0.9, 0.1], [0.2, 0.8]], (15, 1))
    marks = np.ones(30, dtype=np.bool_)
    told = evaluate_predictions(probs, np.tile([0, 1], 15), classes=("cat", "dog"), accepted=marks, flagged=~marks)
    assert re.search(r"log loss 0\.\d{3} \(0\.\d{3} to 0\.\d{3}\), ", write_model_card(make_card(evaluation=told)))


def test_says_what_nobody_filled_in() -> None:
    assert write_model_card(make_card()).count("Nobody has filled this in yet") == 2
    filled = write_model_card(make_card(intended_use="Sorting pets.", not_for="Medicine."))
    assert "Nobody has filled" not in filled
    assert "## What it is for\n\nSorting pets.\n" in filled
    assert "## What it is not for\n\nMedicine.\n" in filled


def test_tells_limits_and_provenance() -> None:
    card = write_model_card(make_card(limits=["Indoors only."], provenance={"seed": "42"}, pictures="test pictures"))
    assert "- Indoors only." in card
    assert ["seed", "42"] in table(card, "Provenance")
    assert ["backbone", "efficientnet_lite0 (ImageNet, Apache-2.0)"] in table(card, "Provenance")
    assert ["made", "2026-05-03T12:00:00+00:00"] in table(card, "Provenance")
    assert "of 4 test pictures**" in card


def test_a_card_without_a_time_is_the_same_every_time() -> None:
    assert "made" not in [row[0] for row in table(write_model_card(make_card(created_at=None)), "Provenance")]


@pytest.mark.parametrize("name", ["pets", 'it\'s "mine"', "two words", "a```b", "x\nrm -rf", "naïve"])
def test_code_is_code_whatever_the_name(name: str) -> None:
    usage = write_model_card(make_card(name=name)).split("## How to use it\n")[1].split("\n## ")[0]
    python, shell = re.findall(r"^(`{3,})(?:python|sh)\n(.*?)\n\1$", usage, flags=re.DOTALL | re.MULTILINE)
    tree = ast.parse(python[1])
    assert len(tree.body) == 3
    file = next(node.value for node in ast.walk(tree) if isinstance(node, ast.Constant))
    assert file == name.replace("\n", "_") + ".dt"
    assert shlex.split(shell[1]) == ["drivetrain", "predict", file, "picture.jpg", "--json"]


def test_names_are_text_and_never_markup() -> None:
    card = write_model_card(make_card(classes=("<script>alert(1)</script>", "a|b\n# c")))
    body = card.split("---\n", 2)[2]
    assert "\\<script\\>" in body
    assert not re.search(r"(?<!\\)<", body)
    assert "\n# c" not in body
    assert table(card, "Data")[3][0] == "a\\|b # c"


@pytest.mark.parametrize(
    ("text", "shown"),
    [("t-shirt", "t-shirt"), ("snake_case", "snake_case"), ("_x_", "\\_x\\_"), ("# h", "\\# h"), ("1. a", "1\\. a")],
)
def test_only_what_markdown_would_read_is_escaped(text: str, shown: str) -> None:
    assert f"## What it is for\n\n{shown}\n" in write_model_card(make_card(intended_use=text))


def test_a_folder_name_that_is_not_utf8_still_makes_a_card() -> None:
    assert "caf\\udce9" in write_model_card(make_card(classes=("caf\udce9", "dog"))).encode().decode()
