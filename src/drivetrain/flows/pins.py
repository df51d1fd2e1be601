"""The exact versions of everything that serving needs, as they are installed here."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from importlib import metadata

from packaging.markers import default_environment
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

__all__ = ["pin_base_install", "python_here"]

_LINUX = {"sys_platform": "linux", "platform_system": "Linux", "os_name": "posix"}  # where the folder will run


def pin_base_install(project: str = "drivetrain") -> list[str]:
    """`name==version` of all that `pip install drivetrain` brings on Linux, without itself, by name.

    Versions are those installed here, where the model was tried. What is not installed here, because this is no Linux,
    stands with the range that its user gives.
    """
    here: Mapping[str, str] = {name: str(value) for name, value in default_environment().items()} | _LINUX
    pins: dict[str, str] = {}
    waiting = list(_requirements(project, here, extras=set()))
    while waiting:
        wanted = waiting.pop()
        name = canonicalize_name(wanted.name)
        if name in pins and not wanted.extras:
            continue
        try:
            found = metadata.distribution(wanted.name)
        except metadata.PackageNotFoundError:
            pins.setdefault(name, f"{name}{wanted.specifier}")
            continue
        pins[name] = f"{name}=={found.version.partition('+')[0]}"  # "+cpu" names an index of its own
        waiting += _requirements(wanted.name, here, extras=wanted.extras)
        wanted.extras = set()
    return [pins[name] for name in sorted(pins)]


def python_here() -> str:
    """`3.11`: the versions above have been tried with it, and with no other."""
    return f"{sys.version_info.major}.{sys.version_info.minor}"


def _requirements(project: str, environment: Mapping[str, str], *, extras: set[str]) -> Iterator[Requirement]:
    for line in metadata.requires(project) or ():
        wanted = Requirement(line)
        if wanted.marker is None or any(
            wanted.marker.evaluate({**environment, "extra": extra}) for extra in ("", *extras)
        ):
            yield wanted
