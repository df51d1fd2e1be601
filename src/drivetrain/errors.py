"""Every error a user can meet.

DrivetrainError
  InvalidInput          what was given cannot be used (also a ValueError)
    UnreadablePicture   one file that is not a picture we can decode
    BundleRefused       a model file that is damaged, hostile or not ours
  InvalidConfig         a setting or option is off (also a ValueError)
  NotFound              something named is not there (also a LookupError)
  Conflict              something is already there, or in the way
  Unavailable           cannot be done here and now
    QueueFull           too much is waiting already; the same may work in a moment
    DeadlinePassed      no answer in the time it had
    MissingExtra        needs an optional part that is not installed

A message says what was looked at, what was got, what is allowed and what to do next.
"""

from __future__ import annotations

__all__ = [
    "BundleRefused",
    "Conflict",
    "DeadlinePassed",
    "DrivetrainError",
    "InvalidConfig",
    "InvalidInput",
    "MissingExtra",
    "NotFound",
    "QueueFull",
    "Unavailable",
    "UnreadablePicture",
]


class DrivetrainError(Exception):
    """Base of all errors; `code` is stable, `field` names the thing that is off."""

    code = "error"
    shown_chars = 200  # of what was got: a hostile value must not flood a log

    def __init__(self, field: str, *, got: object, want: str, hint: str = "") -> None:
        shown = got if isinstance(got, str) else repr(got)
        if len(shown) > self.shown_chars:
            shown = shown[: self.shown_chars] + "..."
        self.field = field
        self.got = shown
        self.want = want
        self.hint = hint
        self.message = f"{field}: got {shown}; want {want}." + (f" {hint}" if hint else "")
        super().__init__(self.message)


class InvalidInput(DrivetrainError, ValueError):
    """What was given cannot be used."""

    code = "invalid_input"


class UnreadablePicture(InvalidInput):
    """One file that cannot be decoded; `reason` is short enough for a table."""

    code = "unreadable_picture"

    def __init__(self, field: str, *, reason: str, hint: str = "") -> None:
        self.reason = reason
        super().__init__(
            field,
            got=reason,
            want="a JPEG, PNG, WebP, GIF, BMP or TIFF picture",
            hint=hint or "Open it in a viewer and save it again, or leave it out.",
        )


class BundleRefused(InvalidInput):
    """A model file that will not be loaded. `code` says which rule it broke:

    bundle_zip, bundle_path, bundle_member, bundle_pickle, bundle_size, bundle_digest, bundle_schema,
    bundle_manifest, bundle_model, bundle_fixtures.
    """

    def __init__(self, code: str, field: str, *, got: object, want: str, hint: str = "") -> None:
        self.code = code
        super().__init__(
            field,
            got=got,
            want=want,
            hint=hint or "Get the file again from where it was made, or export it anew with `drivetrain train`.",
        )


class InvalidConfig(DrivetrainError, ValueError):
    """A setting or an option is off."""

    code = "invalid_config"
    shown_chars = 4_000  # it tells every problem at once


class NotFound(DrivetrainError, LookupError):
    """Something named is not there."""

    code = "not_found"


class Conflict(DrivetrainError):
    """Something is already there, or in the way."""

    code = "conflict"


class Unavailable(DrivetrainError):
    """Cannot be done here and now."""

    code = "unavailable"


class QueueFull(Unavailable):
    """Too much is waiting already; the same may work in `retry_after_s` seconds."""

    code = "overloaded"

    def __init__(self, field: str, *, got: object, want: str, hint: str = "", retry_after_s: int = 1) -> None:
        self.retry_after_s = retry_after_s
        super().__init__(field, got=got, want=want, hint=hint or "Send it again in a moment.")


class DeadlinePassed(Unavailable):
    """No answer in the time it had."""

    code = "deadline_passed"


class MissingExtra(Unavailable):
    """Needs an optional part that is not installed; the message holds the command that installs it."""

    code = "missing_extra"

    def __init__(self, what: str, *, package: str, extra: str) -> None:
        self.extra = extra
        super().__init__(
            what,
            got=f"no package {package!r} here",
            want=f"the extra {extra!r}",
            hint=f"Install it: pip install 'drivetrain[{extra}]'",
        )
