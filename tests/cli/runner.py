"""A verb as a person runs it, in this process."""

from __future__ import annotations

from pathlib import Path

import pytest

from drivetrain.cli.main import main


def run(*argv: str | Path) -> int:
    """The exit code of `drivetrain ARGV`."""
    with pytest.raises(SystemExit) as ended:
        main([str(arg) for arg in argv])
    assert isinstance(ended.value.code, int)
    return ended.value.code
