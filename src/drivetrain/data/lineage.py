"""Which pictures a model was made from: by content, so that a moved folder is the same."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable

from drivetrain.data.items import Item

__all__ = ["digest_items"]


def digest_items(items: Iterable[tuple[Item, bytes]]) -> str:
    """sha256 of which pictures, (item, sha256 of its file) each, bear which label; in any order."""
    rows = sorted((item.path, item.label, sha256.hex()) for item, sha256 in items)
    return hashlib.sha256(json.dumps(rows).encode()).hexdigest()
