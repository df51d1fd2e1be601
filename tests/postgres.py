"""Runs a command with a PostgreSQL of its own: `python tests/postgres.py COMMAND ...`; it is gone afterwards.

Debian's server, on a free port, in a temporary folder, named to the command by DRIVETRAIN_TEST_POSTGRES. Root installs
it where it is missing. Where none can be had, that is said, and the command runs without: its tests skip.
"""

from __future__ import annotations

import contextlib
import os
import pwd
import secrets
import shutil
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

NAME = "DRIVETRAIN_TEST_POSTGRES"
HOW = f"Install PostgreSQL (on Debian: apt-get install postgresql), or set {NAME}=postgresql://USER:PASSWORD@HOST/NAME"
INSTALLED = Path("/usr/lib/postgresql")  # Debian keeps each version's programs here, and off the PATH
# what a test database need not outlive, a power cut, costs most of the time
OPTIONS = "-c fsync=off -c full_page_writes=off -c unix_socket_directories= -c listen_addresses=127.0.0.1"


class Missing(Exception):
    """There is none to be had here, and why."""


def main(command: list[str]) -> int:
    if not command:
        sys.stderr.write(f"{__doc__}\n")
        return 2
    if os.environ.get(NAME):
        return subprocess.run(command, check=False).returncode
    try:
        with serving(find_programs()) as url:
            return subprocess.run(command, check=False, env={**os.environ, NAME: url}).returncode
    except Missing as exc:
        sys.stderr.write(f"Without PostgreSQL: {exc}. Its tests will skip. {HOW}\n")
    return subprocess.run(command, check=False).returncode


def find_programs() -> Path:
    """The folder of initdb and pg_ctl. Raises Missing."""
    for _ in range(2):
        found = [Path(there).parent] if (there := shutil.which("initdb")) else []
        found += sorted(INSTALLED.glob("*/bin"), key=lambda folder: float(folder.parent.name), reverse=True)
        whole = [folder.resolve() for folder in found if (folder / "initdb").exists() and (folder / "pg_ctl").exists()]
        if whole:
            return whole[0]
        install()
    raise Missing("apt-get installed no initdb")


def install() -> None:
    if os.geteuid() != 0 or shutil.which("apt-get") is None:
        raise Missing("it is not installed, and only root can, with apt-get")
    sys.stderr.write("Installing PostgreSQL (apt-get)\n")
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    for verb in (["update"], ["install", "--yes", "--no-install-recommends", "postgresql"]):
        done = subprocess.run(["apt-get", "-qq", *verb], check=False, env=environment, capture_output=True, text=True)
        if done.returncode:
            raise Missing(f"apt-get {verb[0]} failed: {done.stderr.strip()[-300:]}")


@contextlib.contextmanager
def serving(programs: Path) -> Iterator[str]:
    """The URL of a new server. Raises Missing where it does not start."""
    user = find_user()
    with tempfile.TemporaryDirectory(prefix="drivetrain-postgres-") as name:
        folder, password = Path(name), secrets.token_hex(16)
        (folder / "password").write_text(password)
        if user is not None:
            for path in (folder, folder / "password"):
                shutil.chown(path, user)
        data = str(folder / "data")
        new = ["-D", data, "-U", "postgres", "-A", "scram-sha-256", "--pwfile", str(folder / "password"), "-E", "UTF8"]
        run(programs / "initdb", [*new, "--no-sync", "--locale=C.UTF-8"], user, folder)
        port = find_port()
        start = ["-D", data, "-l", str(folder / "log"), "-w", "-t", "120", "-o", f"-p {port} {OPTIONS}", "start"]
        run(programs / "pg_ctl", start, user, folder)
        try:
            yield f"postgresql://postgres:{password}@127.0.0.1:{port}/postgres"
        finally:
            run(programs / "pg_ctl", ["-D", data, "-w", "-m", "immediate", "stop"], user, folder)


def find_user() -> str | None:
    """As whom it runs: it refuses root. Raises Missing."""
    if os.geteuid() != 0:
        return None
    for name in ("postgres", "nobody"):
        with contextlib.suppress(KeyError):
            pwd.getpwnam(name)
            return name
    raise Missing("it does not run as root, and there is no other user")


def find_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def run(program: Path, arguments: list[str], user: str | None, folder: Path) -> None:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PG")}
    with (folder / "told").open("w+") as told:  # not a pipe: the server would keep it open
        done = subprocess.run(
            [str(program), *arguments], check=False, stdout=told, stderr=told, user=user, cwd=folder, env=environment
        )
        told.seek(0)
        if done.returncode:
            raise Missing(f"{program.name} failed: {told.read().strip()[-300:]}")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
