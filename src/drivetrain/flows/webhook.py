"""Tell another program what happened: JSON by POST, signed, so that the one who gets it knows who sent it.

`X-Drivetrain-Timestamp: SECONDS` and `X-Drivetrain-Signature: sha256=HEX`, the HMAC-SHA256 of TIMESTAMP + "." + BODY.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import math
import time
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

from drivetrain.errors import InvalidConfig, Unavailable

__all__ = ["SECRET_MIN_CHARS", "check_webhook", "post_signed", "sign"]

SECRET_MIN_CHARS = 16


def sign(secret: str, timestamp: str, body: bytes) -> str:
    """The value of X-Drivetrain-Signature."""
    return "sha256=" + hmac.new(secret.encode(), timestamp.encode() + b"." + body, hashlib.sha256).hexdigest()


def check_webhook(url: str, secret: str) -> None:
    """Raises InvalidConfig where nothing could be sent there, or nothing signed."""
    try:
        parts = urlsplit(url)
        is_address = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        is_address = False
    if not is_address:
        raise InvalidConfig("webhook", got=_shown(url), want="an http or https address, or none")
    if len(secret) < SECRET_MIN_CHARS:
        raise InvalidConfig(
            "webhook_secret",
            got="none" if secret in ("", "none") else f"{len(secret)} characters",
            want=f"at least {SECRET_MIN_CHARS} characters",
            hint="Who gets the webhook checks its signature with it: docs/rollout-traffic.md.",
        )


def post_signed(url: str, secret: str, event: str, body: Mapping[str, Any], *, timeout_s: float) -> None:
    """Send `body` with its `event`, once; redirects are not followed.

    Raises InvalidConfig for an address or a secret that will not do, Unavailable where it was not taken (no 2xx).
    """
    import httpx  # a tenth of a second to load, and most processes never send

    check_webhook(url, secret)
    content = json.dumps({"event": event, **body}, ensure_ascii=False, allow_nan=False).encode()
    timestamp = str(math.floor(time.time()))
    headers = {
        "Content-Type": "application/json",
        "X-Drivetrain-Timestamp": timestamp,
        "X-Drivetrain-Signature": sign(secret, timestamp, content),
    }
    try:
        answer = httpx.post(url, content=content, headers=headers, timeout=timeout_s, follow_redirects=False)
    except (httpx.HTTPError, httpx.InvalidURL, ValueError, OSError) as exc:
        raise Unavailable("webhook", got=type(exc).__name__, want=f"an answer of {_shown(url)}") from None
    if not answer.is_success:
        raise Unavailable("webhook", got=f"{answer.status_code} from {_shown(url)}", want="200")


def _shown(url: str) -> str:
    """Without what may be secret in it: a name and password, a path or a query with a token."""
    try:
        parts = urlsplit(url)
        return f"{parts.scheme}://{parts.hostname or ''}" if parts.scheme and parts.hostname else "no address"
    except ValueError:
        return "no address"
