"""Why a picture was not gathered: the reasons, and what is remembered of them."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["REASONS", "Refusal", "Refused"]

# reason -> what it means, for docs and tables; `http_404` and its like are one more reason each
REASONS = {
    "bad_url": "not an address of the web: another scheme than http and https, a password in it, or no host",
    "private_address": "it leads to a private network, to this machine, or to nobody",
    "unknown_host": "its host has no address",
    "no_connection": "the connection was refused, broken off, or not secure",
    "silent": "the server did not answer in time",
    "too_slow": "the server sent too slowly to end in time",
    "redirects": "redirected in a circle, too often, or to nowhere",
    "bad_answer": "the answer is not HTTP",
    "incomplete": "the answer ended before its announced length",
    "wrong_type": "the server says that it is no picture",
    "encoded": "the server compressed it, unasked",
    "too_large": "more bytes than allowed",
    "too_small": "fewer pixels than allowed",
    "unreadable": "its bytes are no picture that can be decoded whole",
    "no_file": "no regular file that can be read",
    "removed": "it was gathered, and deleted since",
}
# What may be gone tomorrow: asked for again by the next run. All others wait for --retry-refused.
_PASSING = frozenset(
    {"unknown_host", "no_connection", "silent", "too_slow", "bad_answer", "incomplete", "no_file"}
    | {f"http_{status}" for status in (408, 425, 429, 500, 502, 503, 504)}
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Refusal:
    """One reason, told by name; `limit` is the option it was judged by ("min-size 64"), if any."""

    reason: str
    detail: str = ""
    limit: str = ""

    @property
    def is_passing(self) -> bool:
        """Whether the same address may give a picture later."""
        return self.reason in _PASSING

    def __str__(self) -> str:
        name = self.reason.replace("_", " ")
        return f"{name}: {self.detail}" if self.detail else name


class Refused(Exception):
    """Raised inside a gathering; `may_retry` says that a second try in the same run makes sense."""

    def __init__(
        self, refusal: Refusal, *, may_retry: bool = False, wait_s: float | None = None, host_failed: bool = False
    ) -> None:
        super().__init__(str(refusal))
        self.refusal = refusal
        self.may_retry = may_retry
        self.wait_s = wait_s  # what the server asked for with Retry-After
        self.host_failed = host_failed  # the host itself did not answer, whatever was asked of it
