"""This very package as a wheel, written from the files that run here: no build tool, no network, the same bytes again.

Format: https://packaging.python.org/en/latest/specifications/binary-distribution-format/
"""

from __future__ import annotations

import base64
import hashlib
import io
import json
import tomllib
import zipfile
from importlib import metadata
from pathlib import Path
from urllib.parse import urlsplit
from urllib.request import url2pathname

from packaging.requirements import Requirement

from drivetrain.errors import Conflict, Unavailable

__all__ = ["build_wheel"]

_TIME = (1980, 1, 1, 0, 0, 0)  # the earliest that a zip knows
_MODE = 0o100644 << 16
_ABOUT = "Wheel-Version: 1.0\nGenerator: drivetrain\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
_COPIED = ("METADATA", "entry_points.txt", "licenses/LICENSE")


def build_wheel() -> tuple[str, bytes]:
    """File name and content; the same for the same files."""
    installed = metadata.distribution("drivetrain")
    if not installed.read_text("METADATA"):
        raise Unavailable(
            "drivetrain",
            got="an install without its METADATA",
            want="one that pip made",
            hint="Install it: pip install drivetrain",
        )
    _check_fresh(installed)
    info = f"drivetrain-{installed.version}.dist-info"
    members = _modules()
    for name in _COPIED:
        text = installed.read_text(name)
        if text is not None:
            members[f"{info}/{name}"] = text.encode()
    members[f"{info}/WHEEL"] = _ABOUT.encode()
    record = "".join(f"{name},sha256={_digest(data)},{len(data)}\n" for name, data in members.items())
    members[f"{info}/RECORD"] = f"{record}{info}/RECORD,,\n".encode()
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as wheel:
        for name, data in members.items():
            entry = zipfile.ZipInfo(name, _TIME)
            entry.compress_type = zipfile.ZIP_DEFLATED
            entry.external_attr = _MODE
            wheel.writestr(entry, data)
    return f"drivetrain-{installed.version}-py3-none-any.whl", out.getvalue()


def _check_fresh(installed: metadata.Distribution) -> None:
    """An editable install keeps the requirements of the day it was made; a wheel with old ones would not start."""
    origin = json.loads(installed.read_text("direct_url.json") or "{}")
    if not origin.get("dir_info", {}).get("editable"):
        return
    project = Path(url2pathname(urlsplit(origin["url"]).path)) / "pyproject.toml"
    wanted = tomllib.loads(project.read_text("utf-8"))["project"]["dependencies"]
    known = [line for line in installed.requires or () if "extra ==" not in line]
    if {Requirement(line) for line in wanted} != {Requirement(line) for line in known}:
        raise Conflict(
            "drivetrain",
            got="an install whose requirements are not those of its pyproject.toml any more",
            want="a fresh one",
            hint=f"Install it again: pip install -e {project.parent}",
        )


def _modules() -> dict[str, bytes]:
    root = Path(__file__).parents[1]
    files = sorted(path for path in root.rglob("*") if path.is_file() and not _is_left_out(path.relative_to(root)))
    return {f"drivetrain/{path.relative_to(root).as_posix()}": path.read_bytes() for path in files}


def _is_left_out(path: Path) -> bool:
    return path.suffix == ".pyc" or any(part == "__pycache__" or part.startswith(".") for part in path.parts)


def _digest(data: bytes) -> str:
    return base64.urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b"=").decode()
