"""Pictures in JSON: base64 in a string, or an address to fetch from."""

from __future__ import annotations

import base64
import binascii
from dataclasses import dataclass
from typing import Any

from drivetrain.errors import DrivetrainError, InvalidInput

from .bodies import Lease, Limits, Upload
from .errors import TooLarge
from .json_body import kind_of, plain_text

__all__ = ["PictureRequest", "UrlItem", "decode_base64", "read_pictures"]

_NAME_MAX_CHARS = 255
_URL_MAX_CHARS = 4_000
_ONE, _MANY = frozenset({"image", "url", "name"}), frozenset({"images"})
_WANT = '{"image": BASE64}, {"url": ADDRESS} or {"images": [...]}'


@dataclass(frozen=True, slots=True)
class UrlItem:
    """A picture that is still to be fetched."""

    name: str
    url: str


@dataclass(frozen=True, slots=True)
class PictureRequest:
    """What a body asks: a picture, an address, or what is wrong with it, each in its place."""

    items: list[Upload | UrlItem | tuple[str, DrivetrainError]]
    is_list: bool


def read_pictures(body: Any, limits: Limits, lease: Lease) -> PictureRequest:
    """The pictures of a parsed body; one that cannot be used among several fails alone."""
    if not isinstance(body, dict):
        raise InvalidInput("body", got=kind_of(body), want=_WANT)
    if "images" not in body:
        one = _read_one(body, "body", limits, lease)
        return PictureRequest([one], is_list=False)
    if extra := body.keys() - _MANY:
        raise InvalidInput("body", got=f"the key {min(extra)!r} beside images", want="images alone")
    images = body["images"]
    if not isinstance(images, list) or not images:
        raise InvalidInput("images", got=kind_of(images) if images != [] else "none", want="a list of pictures")
    if len(images) > limits.pictures:
        raise TooLarge("images", got=f"{len(images)} pictures", want=f"at most {limits.pictures} in one request")
    items: list[Upload | UrlItem | tuple[str, DrivetrainError]] = []
    for number, one in enumerate(images):
        given = {"image": one} if isinstance(one, str) else one
        try:
            items.append(_read_one(given, f"images[{number}]", limits, lease))
        except TooLarge:
            raise
        except InvalidInput as exc:
            items.append(("", exc))
    return PictureRequest(items, is_list=True)


def _read_one(given: Any, field: str, limits: Limits, lease: Lease) -> Upload | UrlItem:
    if not isinstance(given, dict):
        raise InvalidInput(field, got=kind_of(given), want=_WANT)
    if extra := given.keys() - _ONE:
        raise InvalidInput(field, got=f"the key {min(extra)!r}", want=_WANT)
    if ("image" in given) == ("url" in given):
        raise InvalidInput(field, got="both image and url" if "url" in given else "neither image nor url", want=_WANT)
    name = plain_text(given.get("name", ""), f"{field}.name", max_chars=_NAME_MAX_CHARS)
    if "url" in given:
        return UrlItem(name, plain_text(given["url"], f"{field}.url", max_chars=_URL_MAX_CHARS))
    return Upload(name, decode_base64(given["image"], f"{field}.image", limits, lease))


def decode_base64(text: object, field: str, limits: Limits, lease: Lease) -> bytes:
    """A picture's bytes; blanks and line ends are passed over, and so is the head of a data URL."""
    if not isinstance(text, str):
        raise InvalidInput(field, got=kind_of(text), want="base64 in a string")
    if text.startswith("data:"):
        head, _, text = text.partition(",")
        if not head.endswith(";base64"):
            raise InvalidInput(field, got="a data URL that is not base64", want="data:image/...;base64,...")
    if len(text) // 4 * 3 > limits.picture_bytes + 3 + len(text) // 32:  # line ends take at most a 38th of it
        raise TooLarge(field, got=f"about {len(text) // 4 * 3} bytes", want=f"at most {limits.picture_bytes} bytes")
    lease.take(len(text) // 4 * 3)
    try:
        content = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        content = _decode_wrapped(text, field)
    if len(content) > limits.picture_bytes:
        raise TooLarge(field, got=f"{len(content)} bytes", want=f"at most {limits.picture_bytes} bytes")
    return content


def _decode_wrapped(text: str, field: str) -> bytes:
    try:
        return base64.b64decode("".join(text.split()), validate=True)
    except (binascii.Error, ValueError):
        raise InvalidInput(field, got="no base64", want="A-Z a-z 0-9 + / and = at its end") from None
