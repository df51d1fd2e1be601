"""Errors: what a message holds, what stays stable for programs, what a hostile value cannot do."""

from __future__ import annotations

import pytest

from drivetrain import errors
from drivetrain.errors import (
    BundleRefused,
    Conflict,
    DrivetrainError,
    InvalidConfig,
    InvalidInput,
    MissingExtra,
    NotFound,
    Unavailable,
    UnreadablePicture,
)


@pytest.mark.parametrize(
    ("kind", "code", "bases"),
    [
        (InvalidInput, "invalid_input", (ValueError,)),
        (InvalidConfig, "invalid_config", (ValueError,)),
        (NotFound, "not_found", (LookupError,)),
        (Conflict, "conflict", ()),
        (Unavailable, "unavailable", ()),
    ],
)
def test_kinds_keep_their_code_and_base(
    kind: type[DrivetrainError], code: str, bases: tuple[type[Exception], ...]
) -> None:
    error = kind("valid", got=2.5, want="a share between 0 and 1", hint="Try --valid 0.2.")
    assert error.code == code
    assert (error.field, error.got, error.want, error.hint) == (
        "valid",
        "2.5",
        "a share between 0 and 1",
        "Try --valid 0.2.",
    )
    assert str(error) == error.message == "valid: got 2.5; want a share between 0 and 1. Try --valid 0.2."
    assert isinstance(error, (DrivetrainError, *bases))


def test_a_message_without_hint_ends_at_what_is_wanted() -> None:
    assert str(NotFound("bears.dt", got="nothing", want="a file")) == "bears.dt: got nothing; want a file."


def test_a_flood_is_cut_short() -> None:
    error = InvalidInput("label", got="x" * 10_000, want="a class")
    assert error.got == "x" * 200 + "..."
    assert len(str(error)) < 300


def test_what_is_not_text_is_shown_as_written_in_code() -> None:
    assert InvalidInput("label", got=None, want="a class").got == "None"
    assert InvalidInput("label", got=["a"], want="a class").got == "['a']"


def test_an_unreadable_picture_says_why_and_what_to_do() -> None:
    error = UnreadablePicture("a/b.jpg", reason="cut short")
    assert isinstance(error, InvalidInput)
    assert (error.code, error.reason) == ("unreadable_picture", "cut short")
    assert str(error) == (
        "a/b.jpg: got cut short; want a JPEG, PNG, WebP, GIF, BMP or TIFF picture. "
        "Open it in a viewer and save it again, or leave it out."
    )
    assert str(UnreadablePicture("a.jpg", reason="empty", hint="Copy it again.")).endswith("Copy it again.")


def test_a_refused_bundle_carries_the_rule_it_broke() -> None:
    error = BundleRefused("bundle_digest", "m.dt: model.onnx", got="sha256 ab", want="sha256 cd")
    assert isinstance(error, InvalidInput)
    assert error.code == "bundle_digest"
    assert "Get the file again" in str(error)
    assert BundleRefused.code == InvalidInput.code  # one refusal's code does not stay behind in the class


def test_a_missing_extra_names_the_command_that_installs_it() -> None:
    error = MissingExtra("train", package="torch", extra="train")
    assert isinstance(error, Unavailable)
    assert (error.code, error.extra) == ("missing_extra", "train")
    assert "no package 'torch' here" in str(error)
    assert "pip install 'drivetrain[train]'" in str(error)


def test_codes_are_told_apart_and_every_error_is_public() -> None:
    kinds = [kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, DrivetrainError)]
    assert sorted(kind.__name__ for kind in kinds) == sorted(errors.__all__)
    codes = [kind.code for kind in kinds if kind is not BundleRefused]  # its codes are per rule
    assert len(codes) == len(set(codes))
