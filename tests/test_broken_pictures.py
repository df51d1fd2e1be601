"""Broken and odd pictures through every door: training, prediction, the command line and the server.

Each is read or named with a reason, its neighbours are unharmed, nothing hangs, and no file is deleted or changed.
"""

from __future__ import annotations

import asyncio
import hashlib
import io
import json
import os
import struct
import threading
import zipfile
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import httpx
import numpy as np
import pytest
from fastapi import FastAPI
from PIL import Image

from drivetrain.cli.main import main
from drivetrain.errors import UnreadablePicture
from drivetrain.flows.train import TrainConfig, TrainResult, train
from drivetrain.progress import SilentProgress
from drivetrain.runtime.prediction import Prediction
from drivetrain.runtime.predictor import Predictor, load
from drivetrain.serve.app import create_app
from drivetrain.serve.model import PredictorModel
from drivetrain.settings import Settings, load_settings

_Answer = TypeVar("_Answer")
SIZE = 96  # pixels: the trunk that the other tests export too
WAIT_S = 120.0


@dataclass(frozen=True, slots=True)
class Case:
    name: str
    content: bytes
    reason: str | None  # a part of it; None where the picture is readable

    @property
    def is_readable(self) -> bool:
        return self.reason is None


def encode(kind: str, *, mode: str = "RGB", size: tuple[int, int] = (60, 40), **options: Any) -> bytes:
    width, height = size
    y, x = np.mgrid[:height, :width]
    noise = np.random.default_rng(0).integers(0, 30, (height, width))
    pixels = np.stack([x * 3 % 256, y * 5 % 256, 128 + noise], axis=-1).astype(np.uint8)
    out = io.BytesIO()
    Image.fromarray(pixels).convert(mode).save(out, kind, **options)
    return out.getvalue()


def chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def png(width: int, height: int, rows: bytes, *extra: bytes) -> bytes:
    """An 8-bit grey PNG of these (still unpacked) rows."""
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + b"".join(extra) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


def patch(data: bytes, at: int, what: bytes) -> bytes:
    return data[:at] + what + data[at + len(what) :]


def with_exif(block: bytes) -> bytes:
    """A JPEG as cameras write it: EXIF first, no JFIF."""
    data = encode("JPEG")
    (length,) = struct.unpack(">H", data[4:6])
    return data[:2] + b"\xff\xe1" + struct.pack(">H", len(block) + 2) + block + data[4 + length :]


def orientation(value: int) -> Image.Exif:
    exif = Image.Exif()
    exif[0x0112] = value
    return exif


def claim_tiff(data: bytes, side: int) -> bytes:
    """Its width and height tags set to `side`."""
    (at,) = struct.unpack("<I", data[4:8])
    (count,) = struct.unpack("<H", data[at : at + 2])
    for entry in range(at + 2, at + 2 + 12 * count, 12):
        (tag,) = struct.unpack("<H", data[entry : entry + 2])
        if tag in (256, 257):
            data = patch(data, entry, struct.pack("<HHII", tag, 4, 1, side))
    return data


def frames(kind: str) -> bytes:
    later = [Image.new("RGB", (60, 40), colour) for colour in ("red", "blue")]
    return encode(kind, save_all=True, append_images=later)


def list_broken() -> Iterator[Case]:
    cuts: dict[str, tuple[float, ...]] = {
        "jpeg": (0.1, 0.5, 0.98),
        "png": (0.005, 0.5, 0.95),
        "webp": (0.05, 0.5, 0.95),
        "gif": (0.005, 0.5, 0.95),
        "bmp": (0.002, 0.5, 0.99),
        "tiff": (0.0007, 0.5, 0.99),
    }
    for kind, shares in cuts.items():
        whole = encode(kind.upper())
        for share in shares:
            yield Case(f"cut-{share}.{kind}", whole[: int(len(whole) * share)], f"a damaged {kind.upper()} picture")
    yield Case("empty.jpg", b"", "an empty file")
    yield Case("text.jpg", b"not a picture at all\n" * 9, "text, not a picture")
    yield Case("page.jpg", b"\n<!DOCTYPE html><html><body>404</body></html>", "a web page, not a picture")
    yield Case("paper.png", b"%PDF-1.4\n%\xe2\xe3\xcf\xd3\n", "a PDF document, not a picture")
    yield Case("phone.jpg", b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(99), "a HEIC picture, which is not supported")
    yield Case("random.jpg", np.random.default_rng(3).bytes(5_000), "5,000 bytes that are no picture we know")
    yield Case("zeros.png", bytes(5_000), "5,000 bytes that begin with nothing but zeros")
    claim = "50,000 x 50,000 pixels, and at most 80,000,000 are decoded"
    yield Case("huge.png", png(50_000, 50_000, b"\0"), claim)
    yield Case("huge.bmp", patch(encode("BMP"), 18, struct.pack("<2i", 50_000, 50_000)), claim)
    yield Case("huge.gif", patch(encode("GIF"), 6, struct.pack("<2H", 50_000, 50_000)), claim)
    yield Case("huge.tif", claim_tiff(encode("TIFF"), 50_000), claim)
    yield Case("warned-of.png", png(10_000, 9_500, b"\0"), "10,000 x 9,500 pixels")  # Pillow itself would only warn
    yield Case("crc.png", patch(encode("PNG"), 29, b"\0\0\0\0"), "a damaged PNG picture")
    bomb = zlib.compress(bytes(20_000_000))
    yield Case("text-bomb.png", png(1, 1, b"\0\7", chunk(b"iTXt", b"a\0\1\0\0\0" + bomb)), "a damaged PNG picture")
    scans = encode("JPEG", progressive=True)
    yield Case(
        "scans.jpg", scans[:-2] + scans[scans.rindex(b"\xff\xda") : -2] * 200, "scans, and at most 100 are decoded"
    )


def list_odd() -> Iterator[Case]:
    """Unusual, and readable all the same."""
    pixel_bomb = png(2, 1, bytes(20_000_000))  # 20 MB of rows where 3 bytes are due
    damaged = b"Exif\0\0II*\0\x08\0\0\0\x09\0\x12\x01\x03\0\x01\0\0\0"
    wide = io.BytesIO()
    Image.fromarray((np.arange(2_400).reshape(40, 60) * 27).astype(np.uint16)).save(wide, "PNG")
    for name, content in {
        "moves.gif": frames("GIF"),
        "moves.webp": frames("WEBP"),
        "moves.png": frames("PNG"),
        "two.mpo": frames("MPO"),
        "pages.tif": frames("TIFF"),
        "ink.jpg": encode("JPEG", mode="CMYK"),
        "grey.jpg": encode("JPEG", mode="L"),
        "wide.png": wide.getvalue(),
        "bits.png": encode("PNG", mode="1"),
        "palette.png": encode("PNG", mode="P", transparency=3),
        "glass.png": encode("PNG", mode="RGBA"),
        "fax.tif": encode("TIFF", mode="1", compression="group4"),
        "packed.tif": encode("TIFF", compression="tiff_lzw"),
        "dot.png": encode("PNG", size=(1, 1)),
        "strip.png": encode("PNG", size=(1, 3_000)),
        "wide-strip.jpg": encode("JPEG", size=(3_000, 1)),
        "hurt-exif.jpg": with_exif(damaged),
        "no-exif.jpg": with_exif(b"Exif\0\0garbage"),
        "long-tail.jpg": encode("JPEG") + b"\0garbage" * 99,
        "wrong-name.jpg": encode("PNG"),
        "wrong-name.png": encode("JPEG"),
        "pixel-bomb.png": pixel_bomb,
        "no-end.png": encode("PNG")[:-12],
    }.items():
        yield Case(name, content, None)
    for turn in range(2, 9):
        yield Case(f"turned-{turn}.jpg", encode("JPEG", exif=orientation(turn)), None)


CASES = {case.name: case for case in (*list_broken(), *list_odd())}


@dataclass(frozen=True, slots=True)
class Folder:
    root: Path
    files: dict[str, Path]  # name of the case -> where it lies
    extra: dict[str, str]  # paths of what is no file -> a part of the reason
    digests: dict[str, str]


def digests_of(root: Path) -> dict[str, str]:
    """Every entry below `root`: the sha256 of a file, else what kind of thing it is."""
    found: dict[str, str] = {}
    for path in sorted(root.rglob("*")):
        is_plain = path.is_file() and not path.is_symlink() and os.access(path, os.R_OK)
        content = hashlib.sha256(path.read_bytes()).hexdigest() if is_plain else oct(path.lstat().st_mode)
        found[path.relative_to(root).as_posix()] = content
    return found


@pytest.fixture(scope="module")
def settings(shared_cache: Path) -> Settings:
    return load_settings(environ={}, flags={"cache_dir": shared_cache, "threads": 2})


@pytest.fixture(scope="module")
def folder(picture_folder: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory) -> Folder:
    """Three classes of good pictures, and among them every case and every odd thing that a file system has."""
    root = tmp_path_factory.mktemp("broken") / "data"
    picture_folder(("circle", "square", "stripes"), per_class=40, root=root)
    files = {}
    for index, case in enumerate(CASES.values()):
        files[case.name] = root / ("circle", "square", "stripes")[index % 3] / case.name
        files[case.name].write_bytes(case.content)
    extra = {}
    (root / "circle" / "folder.jpg").mkdir()
    (root / "circle" / "gone.jpg").symlink_to(root / "nowhere.jpg")
    extra["circle/gone.jpg"] = "cannot be opened: No such file"
    if hasattr(os, "mkfifo"):
        os.mkfifo(root / "square" / "pipe.jpg")
        extra["square/pipe.jpg"] = "not a file"
    locked = root / "square" / "locked.jpg"
    locked.write_bytes(encode("JPEG"))
    locked.chmod(0)
    if not os.access(locked, os.R_OK):  # root reads it all the same
        extra["square/locked.jpg"] = "cannot be opened: Permission denied"
    return Folder(root, files, extra, digests_of(root))


@pytest.fixture(scope="module")
def result(folder: Folder, settings: Settings, tmp_path_factory: pytest.TempPathFactory) -> TrainResult:
    out = tmp_path_factory.mktemp("out") / "odd.dt"
    config = TrainConfig(data=folder.root, out=out, size=SIZE)
    return in_time(lambda: train(config, settings=settings, progress=SilentProgress()), folder)


@pytest.fixture(scope="module")
def predictor(result: TrainResult) -> Predictor:
    return load(result.bundle, threads=2)


def in_time(work: Callable[[], _Answer], folder: Folder) -> _Answer:
    """What `work` gives; a failure, and not a test run that stands still, where it waits for a pipe for ever."""
    answers: list[_Answer] = []
    faults: list[BaseException] = []

    def run() -> None:
        try:
            answers.append(work())
        except BaseException as exc:
            faults.append(exc)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    thread.join(WAIT_S)
    if thread.is_alive():
        os.close(os.open(folder.root / "square" / "pipe.jpg", os.O_RDWR | os.O_NONBLOCK))  # lets go of who reads it
        pytest.fail(f"no answer in {WAIT_S:.0f} s: something waits for a pipe")
    if faults:
        raise faults[0]
    return answers[0]


def test_there_are_enough_cases() -> None:
    assert len([case for case in CASES.values() if not case.is_readable]) >= 30
    assert len([case for case in CASES.values() if case.is_readable]) >= 30


def test_training_names_exactly_the_unreadable_ones(folder: Folder, result: TrainResult) -> None:
    named = dict(result.unreadable)
    broken = {
        file.relative_to(folder.root).as_posix(): CASES[name].reason
        for name, file in folder.files.items()
        if not CASES[name].is_readable
    }
    assert named.keys() == broken.keys() | folder.extra.keys()
    for path, reason in {**broken, **folder.extra}.items():
        assert reason is not None
        assert reason in named[path], path
    assert result.n_train + result.n_valid >= 3 * 40 + sum(case.is_readable for case in CASES.values())


def test_datasheet_counts_and_names_them(result: TrainResult) -> None:
    with zipfile.ZipFile(result.bundle) as archive:
        text = archive.read("DATASHEET.md").decode()
    assert f"left out: {len(result.unreadable)}" in text
    for path, _ in result.unreadable:
        assert path in text


def test_no_file_was_deleted_or_changed(
    folder: Folder, result: TrainResult, predictor: Predictor, capsys: pytest.CaptureFixture[str]
) -> None:
    list(predictor.predict_many(folder.files.values()))
    assert digests_of(folder.root) == folder.digests


def test_predict_many_answers_each_in_its_place(folder: Folder, predictor: Predictor) -> None:
    pipes = [folder.root / path for path in folder.extra if not path.endswith("gone.jpg")]
    files = [*folder.files.values(), *pipes, folder.root / "circle" / "folder.jpg"]
    answers = in_time(lambda: list(predictor.predict_many(files)), folder)
    for file, answer in zip(files, answers, strict=True):
        case = CASES.get(file.name)
        if case is not None and case.reason is None:
            assert isinstance(answer, Prediction), file.name
            assert answer.label in predictor.classes
            assert sum(answer.probabilities.values()) == pytest.approx(1)
        else:
            assert isinstance(answer, UnreadablePicture), file.name
            assert answer.field == str(file)
            assert (case.reason if case else "not a file") in answer.reason or "Permission" in answer.reason


def test_predict_many_takes_bytes_as_it_takes_files(folder: Folder, predictor: Predictor) -> None:
    from_files = list(predictor.predict_many(folder.files.values()))
    from_bytes = list(predictor.predict_many(file.read_bytes() for file in folder.files.values()))
    for one, other in zip(from_files, from_bytes, strict=True):
        if isinstance(one, UnreadablePicture):
            assert isinstance(other, UnreadablePicture)
            assert one.reason == other.reason
        else:
            assert one == other


def test_command_line_gives_each_a_line(
    folder: Folder, result: TrainResult, settings: Settings, capsys: pytest.CaptureFixture[str]
) -> None:
    paths = [str(file) for file in folder.files.values()]
    special = [str(folder.root / path) for path in folder.extra] + [str(folder.root / "circle" / "folder.jpg")]

    def run() -> int | str | None:
        with pytest.raises(SystemExit) as caught:
            main(["predict", str(result.bundle), *paths, *special, "--json", "--threads", "2"])
        return caught.value.code

    assert in_time(run, folder) == 1
    out, err = capsys.readouterr()
    lines = [json.loads(line) for line in out.splitlines()]
    assert "Traceback" not in err
    assert [line["path"] for line in lines] == [*paths, *special]
    for line in lines:
        case = CASES.get(Path(line["path"]).name)
        if case is not None and case.reason is None:
            assert line["label"] in result.evaluation.classes, line
            assert "error" not in line
        else:
            assert line["error"].keys() == {"code", "message", "field"}, line
            assert line["path"] in (line["error"]["field"], line["error"]["message"].partition(":")[0])
            assert case is None or str(case.reason) in line["error"]["message"]


def test_command_line_on_the_folder_leaves_none_out(
    folder: Folder, result: TrainResult, capsys: pytest.CaptureFixture[str]
) -> None:
    def run() -> int | str | None:
        with pytest.raises(SystemExit) as caught:
            main(["predict", str(result.bundle), str(folder.root), "--json", "--threads", "2"])
        return caught.value.code

    assert in_time(run, folder) == 1
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    failed = {Path(line["path"]).relative_to(folder.root).as_posix() for line in lines if "error" in line}
    assert failed == {path for path, _ in result.unreadable}
    assert len(lines) - len(failed) == result.n_train + result.n_valid


@pytest.fixture(scope="module")
def app(predictor: Predictor, settings: Settings) -> Iterator[FastAPI]:
    app = create_app(PredictorModel(predictor), settings)
    yield app
    app.state.registry.close(drain_s=0)


def post(app: FastAPI, **given: Any) -> httpx.Response:
    """One request, in this process."""

    async def send() -> httpx.Response:
        transport = httpx.ASGITransport(app)
        async with httpx.AsyncClient(transport=transport, base_url="http://localhost", timeout=WAIT_S) as session:
            return await session.post("/predict", **given)

    return asyncio.run(send())


@pytest.mark.parametrize("name", CASES)
def test_server_takes_each_alone(name: str, app: FastAPI) -> None:
    case = CASES[name]
    reply = post(app, params={"name": name}, content=case.content, headers={"Content-Type": "application/octet-stream"})
    if case.is_readable:
        assert reply.status_code == 200, reply.text
        assert reply.json()["name"] == name
        return
    assert reply.status_code == 422, reply.text
    body = reply.json()
    assert body.keys() == {"code", "message", "field", "request_id"}
    if case.content:  # an empty body is told as such, not as a picture
        assert (body["code"], body["field"]) == ("unreadable_picture", name)
        assert str(case.reason) in body["message"]


def test_server_takes_them_together(app: FastAPI, settings: Settings) -> None:
    names = list(CASES)
    alone = {
        name: post(app, content=CASES[name].content, headers={"Content-Type": "image/*"}).json()
        for name in names
        if CASES[name].is_readable
    }
    answers: list[dict[str, Any]] = []
    for start in range(0, len(names), settings.request_max_pictures):
        some = names[start : start + settings.request_max_pictures]
        reply = post(app, files=[("file", (name, CASES[name].content)) for name in some])
        assert reply.status_code == 200
        answers += reply.json()["predictions"]
    assert [answer["name"] for answer in answers] == names
    for answer in answers:
        case = CASES[answer["name"]]
        if case.is_readable:
            assert {key: value for key, value in answer.items() if key != "name"} == alone[case.name]
        else:
            assert answer.keys() == {"name", "error"}
            assert (answer["error"]["code"], answer["error"]["field"]) == ("unreadable_picture", case.name)
            assert str(case.reason) in answer["error"]["message"]
    assert app.state.registry.get().batcher.pending == app.state.service.memory.held_bytes == 0
