"""DEST: content-addressed, on record, and whole whenever a run is killed."""

from __future__ import annotations

import csv
import hashlib
import os
import subprocess
import sys
import threading
from datetime import UTC, datetime
from pathlib import Path

import pytest

from drivetrain.data.gather.folder import GatherFolder, Picture
from drivetrain.data.gather.refusal import Refusal, Refused
from drivetrain.data.gather.wanted import Wanted
from drivetrain.data.items import read_items
from drivetrain.errors import Conflict, InvalidInput

from .web import picture

NOON = datetime(2026, 5, 3, 12, tzinfo=UTC)


def want(url: str = "http://a.test/1", label: str = "bear") -> Wanted:
    return Wanted(url=url, label=label, licence="CC0", source="http://a.test/page", found_by="list x.csv")


def shot(number: int = 0) -> Picture:
    return Picture(data=picture(number), format="JPEG", width=96, height=80, final_url="http://b.test/1")


def rows(root: Path) -> list[dict[str, str]]:
    with (root / "sources.csv").open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def test_a_picture_is_kept_under_its_content_with_a_row_that_says_whence(tmp_path: Path) -> None:
    root = tmp_path / "new" / "bears"
    with GatherFolder(root, now=lambda: NOON) as folder:
        path, is_new = folder.keep(want(), shot())
        assert folder.find(want()) == path
        assert folder.count_labels() == {"bear": 1}
    digest = hashlib.sha256(picture()).hexdigest()
    assert (path, is_new) == (f"bear/{digest[:20]}.jpg", True)
    assert (root / path).read_bytes() == picture()
    assert rows(root) == [
        {
            "path": path,
            "class": "bear",
            "url": "http://a.test/1",
            "final_url": "http://b.test/1",
            "time": "2026-05-03T12:00:00Z",
            "licence": "CC0",
            "source": "http://a.test/page",
            "found_by": "list x.csv",
            "sha256": digest,
            "bytes": str(len(picture())),
            "width": "96",
            "height": "80",
        }
    ]
    assert sorted(entry.name for entry in root.iterdir()) == ["bear", "sources.csv"]
    assert [item.path for item in read_items(root)] == [path]  # the tables are no pictures, and no labels


@pytest.mark.parametrize(
    ("kind", "suffix"),
    [("JPEG", ".jpg"), ("PNG", ".png"), ("WEBP", ".webp"), ("GIF", ".gif"), ("BMP", ".bmp"), ("TIFF", ".tif")],
)
def test_the_suffix_is_that_of_the_bytes(kind: str, suffix: str, tmp_path: Path) -> None:
    with GatherFolder(tmp_path) as folder:
        path, _ = folder.keep(
            want("http://a.test/x.html"),
            Picture(data=picture(kind=kind), format=kind, width=96, height=80, final_url=""),
        )
    assert Path(path).suffix == suffix


def test_the_same_bytes_stand_once_in_a_class_and_are_told_in_two(tmp_path: Path) -> None:
    with GatherFolder(tmp_path) as folder:
        first, is_first_new = folder.keep(want("http://a.test/1"), shot())
        second, is_second_new = folder.keep(want("http://a.test/2"), shot())
        other, is_other_new = folder.keep(want("http://a.test/1", "wolf"), shot())
        assert (is_first_new, is_second_new, is_other_new) == (True, False, True)
        assert first == second
        assert folder.find_shared() == [(first, other)]
        assert folder.count_labels() == {"bear": 1, "wolf": 1}
    assert [row["path"] for row in rows(tmp_path)] == [first, first, other]
    assert len(list(tmp_path.rglob("*.jpg"))) == 2


def test_many_threads_with_the_same_picture(tmp_path: Path) -> None:
    with GatherFolder(tmp_path) as folder:
        news: list[bool] = []
        threads = [
            threading.Thread(target=lambda n=n: news.append(folder.keep(want(f"http://a.test/{n}"), shot())[1]))
            for n in range(12)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert sorted(news) == [False] * 11 + [True]
    assert len(rows(tmp_path)) == 12


def test_the_next_run_knows_it_all(tmp_path: Path) -> None:
    with GatherFolder(tmp_path) as folder:
        path, _ = folder.keep(want(), shot())
        folder.refuse(want("http://a.test/2"), Refusal(reason="http_404", detail="Not Found"))
        folder.refuse(want("http://a.test/2"), Refusal(reason="http_404", detail="Not Found"))  # written once
        folder.refuse(want("http://a.test/3"), Refusal(reason="too_small", detail="9 x 9", limit="min-size 64"))
    assert (tmp_path / "refused.csv").read_text().count("\n") == 3
    with GatherFolder(tmp_path) as folder:
        assert folder.find(want()) == path
        assert folder.find(want("http://a.test/2")) is None
        assert folder.find_refusal(want("http://a.test/2")) == Refusal(reason="http_404", detail="Not Found")
        assert folder.find_refusal(want("http://a.test/3")) == Refusal(
            reason="too_small", detail="9 x 9", limit="min-size 64"
        )
        assert folder.find_refusal(want("http://a.test/3", "wolf")) is None
        assert folder.read_known("http://a.test/1") == (picture(), "http://b.test/1")
        assert folder.read_known("http://a.test/2") is None
    with GatherFolder(tmp_path, anew=True) as folder:
        assert folder.find_refusal(want("http://a.test/2")) is None
        assert folder.find(want()) == path


def test_bytes_that_were_changed_since_are_not_handed_on(tmp_path: Path) -> None:
    with GatherFolder(tmp_path) as folder:
        path, _ = folder.keep(want(), shot())
        (tmp_path / path).write_bytes(picture(9))
        assert folder.read_known("http://a.test/1") is None
        (tmp_path / path).unlink()
        assert folder.read_known("http://a.test/1") is None


def test_a_picture_that_was_deleted_does_not_come_back(tmp_path: Path) -> None:
    with GatherFolder(tmp_path) as folder:
        path, _ = folder.keep(want(), shot())
    (tmp_path / path).unlink()
    with GatherFolder(tmp_path) as folder:
        assert folder.find(want()) == ""
        assert folder.count_labels() == {}
        with pytest.raises(Refused, match="removed: the same picture was deleted from the class"):
            folder.keep(want("http://elsewhere.test/copy"), shot())
        assert folder.keep(want("http://a.test/1", "wolf"), shot())[1]
    with GatherFolder(tmp_path, anew=True) as folder:
        assert folder.find(want()) is None
        assert folder.keep(want(), shot()) == (path, True)


def test_a_picture_killed_between_row_and_name_gets_its_name(tmp_path: Path) -> None:
    with GatherFolder(tmp_path) as folder:
        path, _ = folder.keep(want(), shot())
    digest = hashlib.sha256(picture()).hexdigest()
    aside = tmp_path / ".gather"
    aside.mkdir()
    (tmp_path / path).rename(aside / f"{digest}.17.part")
    (aside / f"{'0' * 64}.18.part").write_bytes(b"half a pict")
    (tmp_path / "bear").rmdir()
    with GatherFolder(tmp_path) as folder:
        assert folder.find(want()) == path
        assert (tmp_path / path).read_bytes() == picture()
        assert [file.name for file in aside.iterdir()] == ["lock"]
    assert not aside.exists()


def test_a_part_with_other_bytes_than_its_name_says_is_thrown_away(tmp_path: Path) -> None:
    with GatherFolder(tmp_path) as folder:
        path, _ = folder.keep(want(), shot())
    (tmp_path / path).unlink()
    (tmp_path / ".gather").mkdir()
    (tmp_path / ".gather" / f"{hashlib.sha256(picture()).hexdigest()}.1.part").write_bytes(b"cut")
    with GatherFolder(tmp_path) as folder:
        assert folder.find(want()) == ""
    assert not (tmp_path / path).exists()


@pytest.mark.parametrize("path", ["../out/x.jpg", "/etc/x.jpg", "x.jpg", "", "a/../../x.jpg"])
def test_a_row_that_leads_out_of_the_folder_is_passed_over(path: str, tmp_path: Path) -> None:
    root = tmp_path / "dest"
    with GatherFolder(root) as folder:
        kept, _ = folder.keep(want(), shot())
    table = root / "sources.csv"
    table.write_text(table.read_text().replace(kept, path))
    aside = root / ".gather"
    aside.mkdir()
    (aside / f"{hashlib.sha256(picture()).hexdigest()}.1.part").write_bytes(picture())
    with GatherFolder(root) as folder:
        assert folder.find(want()) is None
    assert [entry.name for entry in tmp_path.iterdir()] == ["dest"]


def test_a_closed_folder_takes_nothing_more(tmp_path: Path) -> None:
    folder = GatherFolder(tmp_path)
    folder.close()
    folder.close()
    with pytest.raises(Conflict, match="a picture after the end"):
        folder.refuse(want(), Refusal(reason="silent"))
    with pytest.raises(FileNotFoundError):
        folder.keep(want(), shot())
    assert list(tmp_path.iterdir()) == []
    GatherFolder(tmp_path / "new").close()
    assert list(tmp_path.iterdir()) == []  # what it made and did not fill is gone


def test_one_run_at_a_time(tmp_path: Path) -> None:
    script = "import sys; from pathlib import Path; from drivetrain.data.gather.folder import GatherFolder as G; "
    script += "f = G(Path(sys.argv[1])); print('open', flush=True); sys.stdin.read()"
    with subprocess.Popen(
        [sys.executable, "-c", script, str(tmp_path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
    ) as other:
        assert other.stdout
        assert other.stdout.readline() == b"open\n"
        with pytest.raises(Conflict, match="which another run is filling; want one run at a time"):
            GatherFolder(tmp_path)
        other.kill()
    with GatherFolder(tmp_path):
        pass


def test_folders_that_cannot_be_filled(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(InvalidInput, match="file, a file; want a folder"):
        GatherFolder(tmp_path / "file")
    (tmp_path / "labels.csv").touch()
    with pytest.raises(Conflict, match="nothing gathered there would be read"):
        GatherFolder(tmp_path)
    (tmp_path / "labels.csv").unlink()
    (tmp_path / "sources.csv").write_text("mine\n1\n")
    with pytest.raises(InvalidInput, match="got columns mine"):
        GatherFolder(tmp_path)
    (tmp_path / "sources.csv").unlink()
    with GatherFolder(tmp_path):  # the lock was let go
        pass


def link(place: Path, to: Path) -> None:
    place.parent.mkdir(parents=True, exist_ok=True)
    place.symlink_to(to, target_is_directory=to.is_dir())


@pytest.mark.parametrize("name", ["sources.csv", "refused.csv", ".gather"])
def test_a_link_in_the_folder_leads_no_writing_out_of_it(name: str, tmp_path: Path) -> None:
    """A folder that came from others may hold links to what is ours."""
    mine = tmp_path / "mine"
    mine.mkdir()
    (mine / "x.part").write_text("mine")
    link(tmp_path / "dest" / name, mine)
    with pytest.raises(Conflict, match="a link; want a real one"):
        GatherFolder(tmp_path / "dest")
    assert (mine / "x.part").read_text() == "mine"


def test_a_link_as_the_lock_empties_nothing(tmp_path: Path) -> None:
    (tmp_path / "mine").write_text("mine")
    link(tmp_path / "dest" / ".gather" / "lock", tmp_path / "mine")
    with pytest.raises(OSError, match="symbolic links"):
        GatherFolder(tmp_path / "dest")
    assert (tmp_path / "mine").read_text() == "mine"


def test_a_link_or_a_file_as_a_class_takes_no_picture_and_no_row(tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    link(tmp_path / "dest" / "bear", tmp_path / "mine")
    (tmp_path / "dest" / "wolf").touch()
    with GatherFolder(tmp_path / "dest") as folder:
        with pytest.raises(Conflict, match="bear, a link; want a real one"):
            folder.keep(want(), shot())
        with pytest.raises(Conflict, match="wolf, a file; want a folder, or nothing"):
            folder.keep(want(label="wolf"), shot())
    assert not (tmp_path / "dest" / "sources.csv").exists()
    assert not list((tmp_path / "mine").iterdir())


def test_a_row_with_a_waiting_part_moves_nothing_through_a_link(tmp_path: Path) -> None:
    """Both files may come from others, and say together: put these bytes there."""
    with GatherFolder(tmp_path / "dest") as folder:
        path, _ = folder.keep(want(), shot())
    digest = hashlib.sha256(picture()).hexdigest()
    (tmp_path / "dest" / path).unlink()
    (tmp_path / "dest" / "bear").rmdir()
    (tmp_path / "mine").mkdir()
    link(tmp_path / "dest" / "bear", tmp_path / "mine")
    (tmp_path / "dest" / ".gather").mkdir()
    (tmp_path / "dest" / ".gather" / f"{digest}.1.part").write_bytes(picture())
    with GatherFolder(tmp_path / "dest"):
        pass
    assert not list((tmp_path / "mine").iterdir())


def test_a_picture_that_got_no_name_gets_it_in_the_next_run(tmp_path: Path) -> None:
    """And is not taken for one that a person deleted."""
    digest = hashlib.sha256(picture()).hexdigest()
    in_the_way = tmp_path / "bear" / f"{digest[:20]}.jpg"
    in_the_way.mkdir(parents=True)
    with GatherFolder(tmp_path) as folder, pytest.raises(OSError):  # noqa: PT011 - its words are the system's
        folder.keep(want(), shot())
    in_the_way.rmdir()
    with GatherFolder(tmp_path) as folder:
        assert folder.find(want()) == f"bear/{in_the_way.name}"
    assert in_the_way.read_bytes() == picture()
    assert not (tmp_path / ".gather").exists()


def test_a_reason_that_a_person_wrote_ends_no_run() -> None:
    assert not Refusal(reason="http_soon").is_passing
    assert Refusal(reason="http_503").is_passing


def test_the_tables_are_no_files_left_out(tmp_path: Path) -> None:
    with GatherFolder(tmp_path) as folder:
        folder.keep(want(), shot())
        folder.refuse(want("http://a.test/2"), Refusal(reason="http_404"))
    assert (tmp_path / "refused.csv").exists()
    assert read_items(tmp_path).note_left_out() == []
