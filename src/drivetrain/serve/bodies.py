"""Read a request's body within limits that are checked while it streams in."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

from fastapi import Request
from python_multipart import MultipartParser
from python_multipart.exceptions import FormParserError
from python_multipart.multipart import parse_options_header

from drivetrain.errors import InvalidInput, QueueFull
from drivetrain.settings import Settings

from .errors import TooLarge, UnsupportedMedia, UploadStalled

if TYPE_CHECKING:
    from python_multipart.multipart import MultipartCallbacks

__all__ = [
    "BodyKind",
    "ClientGone",
    "Lease",
    "Limits",
    "Memory",
    "Upload",
    "body_kind",
    "read_all",
    "read_form",
    "read_raw",
    "refuse_encoding",
]

REQUEST_MAX_BYTES = 500_000_000
_JSON_MAX_BYTES = 70_000_000  # a picture of 50 MB in base64; what is larger comes better as it is
_FRAMING_BYTES = 4096  # a form's boundaries and headers, for each picture
_NAME_MAX_CHARS = 255
_LENGTH = re.compile(r"\d{1,18}")
_ALLOWED = "image/*, application/octet-stream, multipart/form-data or application/json"

BodyKind = Literal["raw", "form", "json"]


class ClientGone(Exception):
    """The client closed its connection; nobody waits for an answer."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What one request may hold."""

    picture_bytes: int
    pictures: int
    request_bytes: int  # of a form, framing included
    json_bytes: int  # of a body that is JSON
    idle_s: float  # longest silence within a body

    @classmethod
    def of(cls, settings: Settings) -> Limits:
        content = min(settings.request_max_pictures * settings.image_max_bytes, REQUEST_MAX_BYTES)
        framing = settings.request_max_pictures * _FRAMING_BYTES
        return cls(
            picture_bytes=settings.image_max_bytes,
            pictures=settings.request_max_pictures,
            request_bytes=content + framing,
            json_bytes=min(content * 4 // 3 + framing, _JSON_MAX_BYTES),
            idle_s=settings.request_timeout_s,
        )


@dataclass(frozen=True, slots=True)
class Upload:
    """One file of a request."""

    name: str
    content: bytes


@dataclass(slots=True)
class Memory:
    """Bytes of all bodies together, so that many large uploads at once cannot take the machine."""

    max_bytes: int
    held_bytes: int = 0

    @contextmanager
    def lease(self) -> Iterator[Lease]:
        lease = Lease(self)
        try:
            yield lease
        finally:
            self.held_bytes -= lease.taken_bytes


@dataclass(slots=True)
class Lease:
    """One request's share of the memory."""

    memory: Memory
    taken_bytes: int = 0

    def take(self, count: int) -> None:
        if self.memory.held_bytes + count > self.memory.max_bytes:
            raise QueueFull(
                "memory",
                got=f"{self.memory.held_bytes} bytes of pictures in hand",
                want=f"at most {self.memory.max_bytes}",
            )
        self.memory.held_bytes += count
        self.taken_bytes += count


def body_kind(request: Request) -> BodyKind:
    """Tell a raw picture from a form and from JSON; anything else is UnsupportedMedia."""
    sent = request.headers.get("content-type", "")
    kind = sent.partition(";")[0].strip().lower()
    refuse_encoding(request)
    if kind == "multipart/form-data":
        return "form"
    if kind == "application/json":
        return "json"
    if kind.startswith("image/") or kind == "application/octet-stream":
        return "raw"
    hint = "With curl, add -H 'Content-Type: application/octet-stream' to --data-binary @FILE, or send -F file=@FILE."
    raise UnsupportedMedia("content-type", got=kind or "none", want=_ALLOWED, hint=hint)


def refuse_encoding(request: Request) -> None:
    """A small compressed body could unpack into a large one: UnsupportedMedia."""
    if request.headers.get("content-encoding", "identity").lower() != "identity":
        raise UnsupportedMedia(
            "content-encoding", got=request.headers["content-encoding"], want="none: pictures are compressed already"
        )


async def read_raw(request: Request, limits: Limits, lease: Lease) -> bytes:
    """The body as one picture."""
    content = await read_all(request, limits.picture_bytes, limits.idle_s, lease)
    if not content:
        raise InvalidInput("body", got="no bytes", want="a picture's bytes")
    return content


async def read_all(request: Request, max_bytes: int, idle_s: float, lease: Lease) -> bytes:
    """The whole body; raises TooLarge as soon as it is longer."""
    chunks = list[bytes]()
    await _receive(request, max_bytes, idle_s, lease, chunks.append)
    return chunks[0] if len(chunks) == 1 else b"".join(chunks)


async def read_form(request: Request, limits: Limits, lease: Lease) -> list[Upload]:
    """The files of a form, in order; text fields are passed over."""
    _, options = parse_options_header(request.headers["content-type"])
    boundary = options.get(b"boundary", b"")
    if not boundary:
        raise InvalidInput("content-type", got="multipart/form-data without a boundary", want="one made by your client")
    files = _FormFiles(limits)
    try:
        parser = MultipartParser(boundary, files.callbacks())
        await _receive(request, limits.request_bytes, limits.idle_s, lease, parser.write)
    except FormParserError as exc:
        raise InvalidInput("body", got="a broken form", want="multipart/form-data") from exc
    if not files.is_complete:
        raise InvalidInput("body", got="a form that stops in the middle", want="one with its closing boundary")
    if not files.uploads:
        seen = ", ".join(files.text_fields) or "no fields"
        raise InvalidInput(
            "body", got=f"a form without a file ({seen})", want="at least one file", hint="With curl: -F file=@FILE."
        )
    return files.uploads


async def _receive(
    request: Request, max_bytes: int, idle_s: float, lease: Lease, take: Callable[[bytes], object]
) -> None:
    """Hand on each chunk as it comes; no async generator, which the loop would keep in a list of its own."""
    declared = request.headers.get("content-length", "")
    if _LENGTH.fullmatch(declared) and int(declared) > max_bytes:
        raise _too_many_bytes("body", declared, max_bytes)
    receive, size, more = request.receive, 0, True
    while more:
        try:
            async with asyncio.timeout(idle_s):
                message = await receive()
        except TimeoutError:
            raise UploadStalled(
                "body", got=f"{size} bytes, then {idle_s:.0f} s of silence", want="the whole body"
            ) from None
        if message["type"] == "http.disconnect":
            raise ClientGone
        chunk = message.get("body", b"")
        more = message.get("more_body", False)
        size += len(chunk)
        if size > max_bytes:
            raise _too_many_bytes("body", f"more than {max_bytes}", max_bytes)
        lease.take(len(chunk))
        if chunk:
            take(chunk)


def _too_many_bytes(what: str, got: str, max_bytes: int) -> TooLarge:
    return TooLarge(what, got=f"{got} bytes", want=f"at most {max_bytes} bytes", hint="Send less.")


@dataclass(slots=True)
class _FormFiles:
    """Gathers a form's files from the parser's callbacks."""

    limits: Limits
    uploads: list[Upload] = field(default_factory=list)
    text_fields: list[str] = field(default_factory=list)
    is_complete: bool = False
    _header: bytearray = field(default_factory=bytearray)
    _value: bytearray = field(default_factory=bytearray)
    _disposition: bytes = b""
    _content: bytearray | None = None  # None outside a file
    _name: str = ""
    _parts: int = 0

    def callbacks(self) -> MultipartCallbacks:
        return {
            "on_part_begin": self._part_begin,
            "on_header_field": lambda data, start, end: self._header.extend(data[start:end]),
            "on_header_value": lambda data, start, end: self._value.extend(data[start:end]),
            "on_header_end": self._header_end,
            "on_headers_finished": self._headers_finished,
            "on_part_data": self._part_data,
            "on_part_end": self._part_end,
            "on_end": self._end,
        }

    def _part_begin(self) -> None:
        self._disposition = b""
        self._content = None
        self._parts += 1
        if self._parts > 2 * self.limits.pictures + 16:  # room for a few text fields beside the files
            raise TooLarge("body", got=f"more than {self._parts - 1} form fields", want="fewer")

    def _header_end(self) -> None:
        if self._header.lower() == b"content-disposition":
            self._disposition = bytes(self._value)
        self._header.clear()
        self._value.clear()

    def _headers_finished(self) -> None:
        _, options = parse_options_header(self._disposition)
        if b"filename" not in options:
            self.text_fields.append(_clean_name(options.get(b"name", b"a field without a name")))
            return
        self._name = _clean_name(options[b"filename"])
        self._content = bytearray()
        if len(self.uploads) == self.limits.pictures:
            raise TooLarge(
                "body",
                got=f"more than {self.limits.pictures} pictures",
                want=f"at most {self.limits.pictures} in one request",
                hint="Send the rest in another request.",
            )

    def _part_data(self, data: bytes, start: int, end: int) -> None:
        if self._content is None:
            return
        self._content += data[start:end]
        if len(self._content) > self.limits.picture_bytes:
            max_bytes = self.limits.picture_bytes
            raise _too_many_bytes(self._name or "file", f"more than {max_bytes}", max_bytes)

    def _part_end(self) -> None:
        # A browser sends a nameless, empty file for an input that was left alone.
        if self._content is not None and (self._name or self._content):
            self.uploads.append(Upload(self._name, bytes(self._content)))
        self._content = None

    def _end(self) -> None:
        self.is_complete = True


def _clean_name(raw: bytes) -> str:
    return raw.decode("utf-8", "replace")[:_NAME_MAX_CHARS]
