from __future__ import annotations

from collections.abc import Iterator

import pytest

from .web import Web, serving


@pytest.fixture
def web() -> Iterator[Web]:
    """A server without a page; a test gives it some."""
    with serving(Web()) as server:
        yield server
