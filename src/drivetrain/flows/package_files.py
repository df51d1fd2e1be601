"""The texts of a packaged folder. Names in them come from a bundle, so they are quoted, and steer nothing."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass

__all__ = ["Contents", "docker_files", "spaces_files"]

_UID = 1000  # Spaces runs everything as this user
_DOCKER_PORT, _SPACES_PORT = 8000, 7860


@dataclass(frozen=True, slots=True, kw_only=True)
class Contents:
    """What is told in the folder's files."""

    name: str
    version: str
    classes: tuple[str, ...]
    statement: str  # when it decides by itself, and what is promised there
    python: str
    wheel: str  # path in the folder
    pins: tuple[str, ...]
    has_card: bool
    model: str = "model.dt"


def docker_files(contents: Contents) -> Mapping[str, str]:
    """For `docker build`: asks for a key, keeps what it remembers in /data."""
    env = {
        "DRIVETRAIN_HOST": "0.0.0.0",  # noqa: S104 - inside a container; without a key it refuses to start
        "DRIVETRAIN_PORT": str(_DOCKER_PORT),
        "DRIVETRAIN_DB": "sqlite:////data/drivetrain.db",
        "DRIVETRAIN_CACHE_DIR": "/tmp/drivetrain",  # noqa: S108 - in a container of our own
        "DRIVETRAIN_LOG_FORMAT": "json",
    }
    return {**_common(contents, env, port=_DOCKER_PORT), "README.md": _docker_readme(contents)}


def spaces_files(contents: Contents) -> Mapping[str, str]:
    """For a Space of Hugging Face: a page for everyone who may see the Space, which remembers nothing."""
    env = {
        "DRIVETRAIN_HOST": "0.0.0.0",  # noqa: S104 - inside a container, behind the Space's own gate
        "DRIVETRAIN_PORT": str(_SPACES_PORT),
        "DRIVETRAIN_INSECURE": "1",
        "DRIVETRAIN_DB": "none",
        "DRIVETRAIN_CACHE_DIR": "/tmp/drivetrain",  # noqa: S108 - in a container of our own
        "DRIVETRAIN_EMBED_FROM": "https://huggingface.co",
        "DRIVETRAIN_TRUSTED_PROXIES": "*",
        "DRIVETRAIN_LOG_FORMAT": "json",
    }
    lfs = "".join(f"{pattern} filter=lfs diff=lfs merge=lfs -text\n" for pattern in ("*.dt", "*.whl"))
    return {
        **_common(contents, env, port=_SPACES_PORT),
        "README.md": _spaces_readme(contents),
        ".gitattributes": lfs,
    }


def _common(contents: Contents, env: Mapping[str, str], *, port: int) -> dict[str, str]:
    return {
        "Dockerfile": _dockerfile(contents, env, port=port),
        "requirements.txt": _requirements(contents),
        ".dockerignore": f"*\n!{contents.model}\n!requirements.txt\n!wheels\n",
    }


def _requirements(contents: Contents) -> str:
    head = (
        f"# What serving {contents.model} takes, in the versions it was tried with, on Python {contents.python}.\n"
        "# Install from within this folder: pip install -r requirements.txt\n"
    )
    return head + "".join(f"{line}\n" for line in (f"./{contents.wheel}", *contents.pins))


def _dockerfile(contents: Contents, env: Mapping[str, str], *, port: int) -> str:
    settings = " \\\n    ".join(f"{name}={value}" for name, value in env.items())
    probe = f"import urllib.request as u; u.urlopen('http://127.0.0.1:{port}/health/ready', timeout=4)"  # 503 raises
    return f"""\
FROM python:{contents.python}-slim AS build
WORKDIR /build
COPY requirements.txt ./
COPY wheels ./wheels
RUN python -m venv /opt/drivetrain && /opt/drivetrain/bin/pip install --no-cache-dir -r requirements.txt

FROM python:{contents.python}-slim
RUN useradd --uid {_UID} --no-create-home --shell /usr/sbin/nologin drivetrain && install -d -o {_UID} -g {_UID} /data
COPY --from=build /opt/drivetrain /opt/drivetrain
WORKDIR /srv
COPY {contents.model} ./
ENV PATH=/opt/drivetrain/bin:$PATH \\
    PYTHONUNBUFFERED=1 \\
    PYTHONDONTWRITEBYTECODE=1 \\
    {settings}
USER {_UID}:{_UID}
EXPOSE {port}
HEALTHCHECK --interval=10s --timeout=5s --start-period=60s --retries=3 CMD ["python", "-c", "{probe}"]
CMD ["drivetrain", "serve", "{contents.model}"]
"""


def _docker_readme(contents: Contents) -> str:
    return f"""\
# {_plain(contents.name)}

{_about(contents)}

Build, make a key (it is shown once), run:

```sh
docker build -t my-model .
docker run --rm -v drivetrain:/data my-model drivetrain key create first
docker run -d --name my-model --read-only --tmpfs /tmp --cap-drop ALL --security-opt no-new-privileges \\
    -v drivetrain:/data -p 127.0.0.1:{_DOCKER_PORT}:{_DOCKER_PORT} my-model
```

Ask it:

```sh
curl -H "Authorization: Bearer $KEY" -H "Content-Type: image/jpeg" --data-binary @photo.jpg \\
    http://127.0.0.1:{_DOCKER_PORT}/predict
```

It speaks plain HTTP: put a proxy with TLS before it where keys cross a network. `docker stop` ends requests in work;
give it 40 seconds: `docker stop -t 40 my-model`. `/data` holds keys and what was answered; the rest is read-only.

{_elsewhere(contents, "DRIVETRAIN_HOST=127.0.0.1")}
"""


def _spaces_readme(contents: Contents) -> str:
    return f"""\
---
title: {json.dumps(_plain(contents.name)[:60])}
emoji: 📷
colorFrom: indigo
colorTo: green
sdk: docker
app_port: {_SPACES_PORT}
pinned: false
---

# {_plain(contents.name)}

{_about(contents)}

Make a Space of the kind Docker, then push this folder to it; the model and the wheel go through git-lfs:

```sh
git init && git lfs install && git add . && git commit -m "Add the model"
git push https://huggingface.co/spaces/YOU/NAME HEAD:main
```

Whoever may see the Space may ask it, without a key: make the Space private where that is not meant. It remembers
nothing that was sent to it, so it takes no feedback.

{_elsewhere(contents, "DRIVETRAIN_DB=none")}
"""


def _about(contents: Contents) -> str:
    shown = ", ".join(f"`{_plain(name)}`" for name in contents.classes[:20])
    more = f" and {len(contents.classes) - 20} more" if len(contents.classes) > 20 else ""
    promise = f"\n\n> {_plain(contents.statement)}" if contents.statement else ""
    card = " What it was made of and how good it is: [MODEL_CARD.md](MODEL_CARD.md)." if contents.has_card else ""
    return f"Version `{_plain(contents.version)}`. It knows {shown}{more}.{card}{promise}"


def _elsewhere(contents: Contents, env: str) -> str:
    return f"""\
Without Docker, on Python {contents.python}, from within this folder:

```sh
python -m venv venv && venv/bin/pip install -r requirements.txt
{env} venv/bin/drivetrain serve {contents.model}
```"""


def _plain(text: str) -> str:
    """On one line, and without what Markdown or HTML would read as more than text."""
    return "".join(c if c.isprintable() and c not in "`<>[]|\\*_#" else " " for c in text).strip() or "model"
