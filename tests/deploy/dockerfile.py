"""Read a Dockerfile, and do outside of Docker what it says: docker itself is not needed for it."""

from __future__ import annotations

import json
import re
import shlex
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

HADOLINT = Path(sys.executable).with_name("hadolint")


@dataclass(frozen=True)
class Dockerfile:
    """Its instructions in order, and the folder that is sent to the build."""

    steps: list[tuple[str, str]]  # RUN, "pip install ..."
    context: Path
    ignored: list[str]  # the lines of its .dockerignore

    def all(self, word: str) -> list[str]:
        return [text for step, text in self.steps if step == word]

    def last(self, word: str) -> str:
        return self.all(word)[-1]

    @property
    def env(self) -> dict[str, str]:
        """Of the last stage."""
        pairs = [pair.partition("=") for pair in shlex.split(self.last("ENV"))]
        return {name: text for name, _, text in pairs}

    @property
    def command(self) -> list[str]:
        found = json.loads(self.last("CMD"))
        assert isinstance(found, list)
        return found

    @property
    def probe(self) -> list[str]:
        found = json.loads(self.last("HEALTHCHECK").partition(" CMD ")[2])
        assert isinstance(found, list)
        return found

    @property
    def sent(self) -> list[str]:
        """What COPY takes from the context."""
        copies = [shlex.split(text) for text in self.all("COPY") if not text.startswith("--from=")]
        return [source for copy in copies for source in copy[:-1]]

    def copy_sent(self, dest: Path) -> None:
        """The context as Docker would see it: only what is allowed and asked for."""
        for name in self.sent:
            source = self.context / name
            if source.is_dir():
                ignore = shutil.ignore_patterns("__pycache__", "*.egg-info")
                shutil.copytree(source, dest / name, ignore=ignore)
            else:
                shutil.copy(source, dest / name)

    def install(self, workdir: Path, *, venv: Path) -> None:
        """The RUN steps of the first stage, in `workdir`, with `venv` for /opt/drivetrain."""
        for step in self.steps[1:]:
            if step[0] == "FROM":
                return
            if step[0] == "RUN":
                script = (
                    step[1].replace("/opt/drivetrain", str(venv)).replace("python -m venv", f"{sys.executable} -m venv")
                )
                done = subprocess.run(["sh", "-ec", script], cwd=workdir, capture_output=True, text=True, check=False)
                assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]


def read(path: Path, *, context: Path) -> Dockerfile:
    text = re.sub(r"\\\n", " ", re.sub(r"(?m)^\s*#.*\n", "", path.read_text("utf-8")))
    steps = [re.split(r"\s+", line.strip(), maxsplit=1) for line in text.splitlines() if line.strip()]
    own = path.with_name(f"{path.name}.dockerignore")
    ignored = (own if own.exists() else context / ".dockerignore").read_text("utf-8").split()
    return Dockerfile([(word, rest) for word, rest in steps], context, ignored)


def problems(path: Path, *, context: Path) -> list[str]:
    """hadolint's, and what it does not look for."""
    done = subprocess.run([HADOLINT, "--no-color", path], capture_output=True, text=True, check=False)
    found = done.stdout.splitlines()
    file = read(path, context=context)
    uid = file.all("USER")[-1].partition(":")[0] if file.all("USER") else "0"
    words = [word for word, _ in file.steps]
    last_stage = words[len(words) - 1 - words[::-1].index("FROM") :]
    found += [f"runs as {uid}"] * (not uid.isdigit() or uid == "0")
    found += ["changes something as the user that serves"] * ("RUN" in last_stage[_index(last_stage, "USER") :])
    found += [f"no {word}" for word in ("HEALTHCHECK", "CMD", "EXPOSE") if word not in last_stage]
    found += ["ADD fetches and unpacks"] * ("ADD" in words)
    found += [f"no version: {image}" for image in file.all("FROM") if not re.search(r":\d", image)]
    found += [f"a secret: {name}" for name in file.env if re.search("PASSWORD|SECRET|TOKEN|KEY", name)]
    found += [f"not there: {name}" for name in file.sent if not (context / name).exists()]
    found += [f"kept out: {name}" for name in file.sent if f"!{name}" not in file.ignored]
    found += ["sends everything"] * (file.ignored[0] != "*")
    found += ["another port is open"] * (file.env.get("DRIVETRAIN_PORT") != file.last("EXPOSE"))
    return found


def _index(words: list[str], word: str) -> int:
    return words.index(word) if word in words else 0
