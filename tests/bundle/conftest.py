from __future__ import annotations

import pytest

from .forge import Parts, tiny_parts


@pytest.fixture(scope="session")
def tiny() -> Parts:
    """An honest bundle of a few kilobytes, made once; `changed` gives copies."""
    return tiny_parts()
