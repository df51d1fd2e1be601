"""Bodies that nobody should send, the same for the same number: what a stranger's program, or a bad line, makes."""

from __future__ import annotations

import base64
import io
import json
import socket
import struct
import time
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cache

import numpy as np
from PIL import Image

EDGE = b"edge-of-the-form"
_CLAIMED = 60_000  # pixels a side of a bomb


@dataclass(frozen=True)
class Attempt:
    """What is written to a connection, piece by piece, and how its making is called."""

    kind: str
    head: bytes
    pieces: list[bytes]
    pause_s: float = 0.0  # between pieces
    is_endless: bool = False  # the last piece again and again, as long as it is taken
    is_left_open: bool = field(default=False)  # more was promised than is sent: then our side is shut


@dataclass(frozen=True)
class Outcome:
    """A status, or 0 where the connection was closed without one; `is_hung` where neither came in time."""

    kind: str
    status: int
    is_hung: bool = False


def send(attempt: Attempt, port: int, *, deadline_s: float) -> Outcome:
    """One connection; what came back first."""
    ends = time.monotonic() + deadline_s
    with socket.create_connection(("127.0.0.1", port), timeout=deadline_s) as raw:
        try:
            raw.sendall(attempt.head)
            for piece in attempt.pieces:
                raw.sendall(piece)
                if attempt.pause_s:
                    time.sleep(attempt.pause_s)
            while attempt.is_endless and time.monotonic() < ends and not _is_answered(raw):
                raw.sendall(attempt.pieces[-1])
            if attempt.is_left_open:
                raw.shutdown(socket.SHUT_WR)
        except OSError:
            pass  # refused while we spoke: an answer may be there all the same
        try:
            raw.settimeout(max(0.1, ends - time.monotonic()))
            answer = raw.recv(65_536)
        except TimeoutError:
            return Outcome(attempt.kind, 0, is_hung=True)
        except OSError:
            return Outcome(attempt.kind, 0)
    return Outcome(attempt.kind, int(answer[9:12]) if answer.startswith(b"HTTP/1.1 ") else 0)


def _is_answered(raw: socket.socket) -> bool:
    raw.setblocking(False)
    try:
        return raw.recv(1, socket.MSG_PEEK) is not None
    except BlockingIOError:
        return False
    finally:
        raw.setblocking(True)


def attempt(number: int, *, seed: int) -> Attempt:
    """Number `number` of the series: most are damaged pictures, the others take turns."""
    rng = np.random.default_rng([seed, number])
    rare = {7: bomb, 17: wrong_length, 27: odd_form, 37: odd_json, 47: odd_request}
    if number % 250 == 99:
        return endless(rng)
    if number % 250 == 199:
        return drip(rng)
    return rare.get(number % 50, damaged)(rng)


@cache
def pictures() -> tuple[tuple[str, bytes], ...]:
    """Real files of every format, and of the ways in which each is written."""
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (12, 16, 3), dtype=np.uint8).repeat(4, 0).repeat(4, 1)
    colour = Image.fromarray(pixels)
    deep = Image.fromarray(pixels[..., 0].astype(np.uint16) * 257)
    frames = [Image.fromarray(np.roll(pixels, 3 * step, 1)) for step in range(3)]
    made: list[tuple[str, bytes]] = []

    def add(kind: str, image: Image.Image, **options: object) -> None:
        out = io.BytesIO()
        image.save(out, kind, **options)
        made.append((kind, out.getvalue()))

    add("JPEG", colour)
    add("JPEG", colour, progressive=True, quality=95)
    add("JPEG", colour.convert("CMYK"))
    add("JPEG", colour.convert("L"), exif=b"Exif\0\0II*\0\x08\0\0\0\x01\0\x12\x01\x03\0\x01\0\0\0\x06\0\0\0\0\0\0\0")
    add("PNG", colour)
    add("PNG", colour.convert("RGBA"))
    add("PNG", colour.convert("P"))
    add("PNG", colour.convert("1"))
    add("PNG", deep)
    add("WEBP", colour, lossless=True)
    add("WEBP", colour, quality=60)
    add("WEBP", frames[0], save_all=True, append_images=frames[1:])
    add("GIF", colour)
    add("GIF", frames[0], save_all=True, append_images=frames[1:], duration=50)
    add("BMP", colour)
    add("BMP", colour.convert("P"))
    add("TIFF", colour)
    add("TIFF", colour, compression="tiff_lzw")
    add("TIFF", colour, compression="jpeg")
    add("TIFF", colour.convert("1"), compression="group4")
    add("TIFF", deep, compression="tiff_adobe_deflate")
    return tuple(made)


def damaged(rng: np.random.Generator) -> Attempt:
    """A real file with flipped bits, a hole, a piece twice, or no end of its own; in one of three wraps."""
    kind, good = pictures()[rng.integers(len(pictures()))]
    data = bytearray(good)
    how = str(rng.choice(["flip", "flip", "flip", "cut", "hole", "twice", "other end", "head"]))
    at = int(rng.integers(len(data)))
    span = int(rng.integers(1, 64))
    if how == "flip":
        for bit in rng.integers(8 * len(data), size=int(rng.integers(1, 33))):
            data[bit // 8] ^= 1 << (bit % 8)
    elif how == "head":  # the sizes and offsets stand there
        for byte in rng.integers(min(64, len(data)), size=4):
            data[byte] = int(rng.integers(256))
    elif how == "cut":
        del data[at:]
    elif how == "hole":
        del data[at : at + span]
    elif how == "twice":
        data[at:at] = data[at : at + span]
    else:
        data[at:] = pictures()[rng.integers(len(pictures()))][1][at:]
    wrap = (raw_body, form_body, json_body)[int(rng.choice(3, p=[0.7, 0.2, 0.1]))]
    return wrap(f"{kind} {how}", bytes(data) or b"\0")


def bomb(rng: np.random.Generator) -> Attempt:
    """Small files that ask for much: sizes that are not there, rows of nothing, text without end, scans without end."""
    kind, data = bombs()[rng.integers(len(bombs()))]
    return (raw_body, form_body)[int(rng.integers(2))](f"bomb: {kind}", data)


@cache
def bombs() -> tuple[tuple[str, bytes], ...]:
    nothing = zlib.compress(bytes(30_000_000), 9)
    return (
        ("PNG size", _png(_CLAIMED, _CLAIMED, zlib.compress(bytes(1000)))),
        ("PNG rows", _png(3000, 1200, zlib.compress(bytes(1200 * 9001), 9))),
        ("PNG stream", _png(10, 10, nothing)),
        ("PNG text", _png(8, 8, zlib.compress(bytes(8 * 25)), text=nothing)),
        ("GIF size", b"GIF89a" + struct.pack("<HH", 65535, 65535) + pictures()[12][1][10:]),
        ("BMP size", _patched("BMP", 18, struct.pack("<ii", _CLAIMED, -_CLAIMED))),
        ("BMP rle", _patched("BMP", 18, struct.pack("<iiHHI", 9000, 9000, 1, 8, 1))),
        ("WEBP size", b"RIFF\x1a\0\0\0WEBPVP8L\x0d\0\0\0\x2f\xff\xff\xff\x0f" + bytes(8)),
        ("TIFF size", _tiff(_CLAIMED, _CLAIMED)),
        ("JPEG scans", _jpeg_scans(3000)),
        ("JPEG size", _jpeg_sized(65_500, 65_500)),
    )


def wrong_length(rng: np.random.Generator) -> Attempt:
    """Content-Length that says more or less than comes, says nothing, or says two things."""
    body = pictures()[0][1]
    n = len(body)
    lines: list[tuple[str, bytes, bool]] = [
        ("more", b"Content-Length: %d\r\n" % (n + 500), True),
        ("less", b"Content-Length: %d\r\n" % (n // 2), False),
        ("huge", b"Content-Length: 99999999999\r\n", False),
        ("huger than a number", b"Content-Length: " + b"9" * 40 + b"\r\n", False),
        ("negative", b"Content-Length: -5\r\n", False),
        ("no number", b"Content-Length: many\r\n", False),
        ("two", b"Content-Length: 5\r\nContent-Length: %d\r\n" % n, False),
        ("and chunked", b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n", False),
        ("bad chunk", b"Transfer-Encoding: chunked\r\n", True),
        ("unknown coding", b"Transfer-Encoding: gzip, chunked\r\n", True),
        ("packed", b"Content-Encoding: gzip\r\nContent-Length: %d\r\n" % n, False),
        ("none", b"", True),
    ]
    kind, line, is_left_open = lines[rng.integers(len(lines))]
    return Attempt(f"length: {kind}", _head(b"image/jpeg", line), [body], is_left_open=is_left_open)


def odd_form(rng: np.random.Generator) -> Attempt:
    """A form with bytes changed in its framing."""
    whole = bytearray(_form([pictures()[i][1] for i in rng.integers(len(pictures()), size=3)]))
    for at in rng.integers(min(300, len(whole)), size=int(rng.integers(1, 6))):
        whole[at] = int(rng.integers(256))
    if rng.random() < 0.3:
        whole = whole[: rng.integers(1, len(whole))]
    kind = b"multipart/form-data; boundary=" + EDGE
    if rng.random() < 0.3:
        kind = bytes(rng.choice([b"multipart/form-data", kind + b"x", b"multipart/form-data; boundary=" + b"b" * 5000]))
    return Attempt("form", _head(kind, b"Content-Length: %d\r\n" % len(whole)), [bytes(whole)])


def odd_json(rng: np.random.Generator) -> Attempt:
    """JSON that is deep, wide, torn, or holds what is no picture."""
    good = base64.b64encode(pictures()[0][1]).decode()
    texts: list[bytes] = [
        b"[" * 100_000,
        b'{"a":' * 50_000,
        b'{"image": "' + b"A" * 200_000 + b'"}',
        b'{"image": 1e999}',
        b'{"image": null, "images": []}',
        json.dumps({"images": [good] * 100}).encode(),
        b'{"image": "\xff\xfe"}',
        b'{"url": "http://127.0.0.1:1/"}',
        json.dumps({"image": good}).encode()[: int(rng.integers(1, 200))],
        b"9" * 100_000,
    ]
    text = texts[rng.integers(len(texts))]
    return Attempt("json", _head(b"application/json", b"Content-Length: %d\r\n" % len(text)), [text])


def odd_request(rng: np.random.Generator) -> Attempt:
    """A request whose own bytes are changed."""
    whole = bytearray(raw_body("", pictures()[0][1]).head)
    for at in rng.integers(len(whole), size=int(rng.integers(1, 8))):
        whole[at] = int(rng.integers(256))
    return Attempt("request", bytes(whole), [pictures()[0][1]], is_left_open=True)


def endless(rng: np.random.Generator) -> Attempt:
    """A chunked body that has no end."""
    size = int(rng.choice([1, 100, 65_536]))
    chunk = (b"%x\r\n" % size + bytes(size) + b"\r\n") * (65_536 // size)
    kind = bytes(rng.choice([b"image/png", b"multipart/form-data; boundary=" + EDGE, b"application/json"]))
    return Attempt(f"endless, {size} a chunk", _head(kind, b"Transfer-Encoding: chunked\r\n"), [chunk], is_endless=True)


def drip(rng: np.random.Generator) -> Attempt:
    """A whole picture, a few bytes at a time; then one that stops in the middle."""
    body = pictures()[rng.integers(len(pictures()))][1]
    step = -(-len(body) // 40)
    pieces = [body[at : at + step] for at in range(0, len(body), step)]
    is_whole = rng.random() < 0.5
    head = _head(b"application/octet-stream", b"Content-Length: %d\r\n" % len(body))
    kept = pieces if is_whole else pieces[:20]
    return Attempt("drip", head, kept, pause_s=0.02, is_left_open=not is_whole)


def raw_body(kind: str, data: bytes) -> Attempt:
    return Attempt(kind, _head(b"application/octet-stream", b"Content-Length: %d\r\n" % len(data)), [data])


def form_body(kind: str, data: bytes) -> Attempt:
    whole = _form([data, pictures()[4][1]])
    head = _head(b"multipart/form-data; boundary=" + EDGE, b"Content-Length: %d\r\n" % len(whole))
    return Attempt(f"{kind}, form", head, [whole])


def json_body(kind: str, data: bytes) -> Attempt:
    text = json.dumps({"image": base64.b64encode(data).decode()}).encode()
    return Attempt(f"{kind}, json", _head(b"application/json", b"Content-Length: %d\r\n" % len(text)), [text])


def _head(kind: bytes, more: bytes) -> bytes:
    return b"POST /predict HTTP/1.1\r\nHost: localhost\r\nContent-Type: " + kind + b"\r\n" + more + b"\r\n"


def _form(files: list[bytes]) -> bytes:
    head = b'Content-Disposition: form-data; name="file"; filename="%d.jpg"\r\n\r\n'
    parts = [b"--" + EDGE + b"\r\n" + head % i + file + b"\r\n" for i, file in enumerate(files)]
    return b"".join(parts) + b"--" + EDGE + b"--\r\n"


def _chunks(*given: tuple[bytes, bytes]) -> Iterator[bytes]:
    for name, data in given:
        yield struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))


def _png(width: int, height: int, data: bytes, *, text: bytes = b"") -> bytes:
    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    texts = [(b"zTXt", b"Comment\0\0" + text)] if text else []
    return b"\x89PNG\r\n\x1a\n" + b"".join(_chunks((b"IHDR", head), *texts, (b"IDAT", data), (b"IEND", b"")))


def _tiff(width: int, height: int) -> bytes:
    tags = [(256, width), (257, height), (258, 8), (259, 1), (262, 1), (273, 8), (278, height), (279, 100)]
    rows = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in tags)
    return b"II*\0\x08\0\0\0" + struct.pack("<H", len(tags)) + rows + bytes(4)


def _patched(kind: str, at: int, value: bytes) -> bytes:
    data = bytearray(next(data for name, data in reversed(pictures()) if name == kind))
    data[at : at + len(value)] = value
    return bytes(data)


def _jpeg_scans(count: int) -> bytes:
    """A progressive file whose scans come again and again."""
    data = pictures()[1][1]
    first = data.index(b"\xff\xda")
    end = data.index(b"\xff", first + 20)
    return data[:first] + data[first:end] * count + b"\xff\xd9"


def _jpeg_sized(width: int, height: int) -> bytes:
    data = bytearray(pictures()[0][1])
    at = data.index(b"\xff\xc0") + 5
    data[at : at + 4] = struct.pack(">HH", height, width)
    return bytes(data)
