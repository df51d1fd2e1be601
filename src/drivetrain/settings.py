"""Settings: one table; order of say: default < drivetrain.toml < environment < flag."""

from __future__ import annotations

import difflib
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

from .errors import InvalidConfig

__all__ = ["SETTINGS", "Setting", "Settings", "load_settings"]

ENV_PREFIX = "DRIVETRAIN_"
DEFAULT_DB = "sqlite:///~/.local/share/drivetrain/drivetrain.db"
_OUTSIDE = {"DRIVETRAIN_DATA", "DRIVETRAIN_TEST_POSTGRES"}  # read by the tests alone, so no settings of the program


@dataclass(frozen=True, slots=True)
class Setting:
    """One row of the table."""

    name: str
    default: str | int
    low: int | None  # smallest number allowed; None for text
    unit: str
    help: str
    high: int | None = None  # largest number allowed


SETTINGS = (
    Setting("cache_dir", "~/.cache/drivetrain", None, "folder", "Features and exported trunks; safe to delete."),
    Setting(
        "pixel_cache_bytes", 4_000_000_000, 0, "bytes", "Most decoded pictures that training keeps there; 0: none."
    ),
    Setting(
        "activation_cache_bytes",
        6_000_000_000,
        0,
        "bytes",
        "Most activations of trained networks' frozen parts kept there beside those in use; older ones go.",
    ),
    Setting("threads", 0, 0, "threads", "Pictures worked on at once; 0 takes every core."),
    Setting("image_max_bytes", 50_000_000, 1_000, "bytes", "A larger picture file is refused unread."),
    Setting("image_max_pixels", 80_000_000, 1_000, "pixels", "A picture whose header says more is refused undecoded."),
    Setting("device", "auto", None, "auto, cpu or cuda", "Where `serve` runs networks; auto: cuda if it agrees."),
    Setting("host", "127.0.0.1", None, "address", "Where `serve` listens; 0.0.0.0 opens it to the network."),
    Setting("port", 8000, 0, "port", "Port of `serve`; 0 takes a free one.", high=65_535),
    Setting("workers", 1, 1, "processes", "Processes of `serve` on one port; they divide the threads.", high=64),
    Setting("shutdown_wait_s", 0, 0, "seconds", "After SIGTERM it answers so long, not ready: for a balancer."),
    Setting("shutdown_grace_s", 30, 1, "seconds", "Then requests in work have so long to end."),
    Setting("trusted_proxies", "127.0.0.1,::1", None, "addresses", "Whose X-Forwarded-For and -Proto are believed."),
    Setting("log_format", "text", None, "text or json", "How `serve` writes its log, a line a request, to stderr."),
    Setting("request_max_pictures", 32, 1, "pictures", "Most pictures in one request to the server."),
    Setting("queue_max_pictures", 64, 1, "pictures", "Pictures waiting in the server before it answers 429."),
    Setting("request_timeout_s", 30, 1, "seconds", "A request that waits longer is answered 503."),
    Setting("models", "none", None, "folder or none", "Where the server may load models from when an admin asks."),
    Setting("allow_url", 0, 0, "0 or 1", "1: callers may name a public address to fetch a picture from.", high=1),
    Setting("db", DEFAULT_DB, None, "URL", "What the server remembers: sqlite:///FILE, postgresql://..., or none."),
    Setting("images", "auto", None, "folder or URL", "Pictures that people review; auto: beside the SQLite file."),
    Setting("review_undo_s", 10, 0, "seconds", "A reviewer may take an answer back for so long.", high=60),
    Setting("review_gold_percent", 5, 0, "percent", "Of what a reviewer sees: pictures of known label.", high=50),
    Setting("review_set_first", 1, 0, "0 or 1", "1: labels that a model thinks possible lead the short list.", high=1),
    Setting("insecure", 0, 0, "0 or 1", "1: whoever reaches the server may ask it for answers, without a key.", high=1),
    Setting(
        "allowed_hosts",
        "auto",
        None,
        "names",
        "Hosts that requests may ask for, with commas; auto: this machine's own while no key is asked for, else any.",
    ),
    Setting("embed_from", "none", None, "origins", "Sites that may show the page in a frame, with commas."),
    Setting("key_rate_limit", 6000, 0, "requests/minute", "Most from one key or person, in each process; 0: no limit."),
    Setting("address_rate_limit", 600, 0, "requests/minute", "Most from one address without a key; 0: no limit."),
    Setting("login_rate_limit", 10, 1, "tries/minute", "Most wrong passwords or keys of one address, or one name."),
    Setting("session_idle_minutes", 120, 1, "minutes", "Who does nothing for so long signs in again."),
    Setting("session_max_hours", 24, 1, "hours", "Who signed in so long ago signs in again."),
    Setting("connections_max", 1000, 10, "connections", "Open at once in each process; then idle ones are closed."),
    Setting("upload_timeout_s", 300, 1, "seconds", "A request's whole body must be there in this time."),
    Setting("webhook", "none", None, "address or none", "Where a roll-out's decisions and rollbacks are told."),
    Setting("webhook_secret", "none", None, "text", "What webhooks are signed with: at least 16 characters."),
    Setting("header_timeout_s", 10, 1, "seconds", "A request's headers must be there in this time."),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """The settings in force; a field for each row of SETTINGS."""

    cache_dir: Path
    pixel_cache_bytes: int
    activation_cache_bytes: int
    threads: int
    image_max_bytes: int
    image_max_pixels: int
    device: str
    host: str
    port: int
    workers: int
    shutdown_wait_s: int
    shutdown_grace_s: int
    trusted_proxies: str
    log_format: str
    request_max_pictures: int
    queue_max_pictures: int
    request_timeout_s: int
    models: str
    allow_url: int
    db: str = field(repr=False)  # it may hold a password
    images: str
    review_undo_s: int
    review_gold_percent: int
    review_set_first: int
    insecure: int
    allowed_hosts: str
    embed_from: str
    key_rate_limit: int
    address_rate_limit: int
    login_rate_limit: int
    session_idle_minutes: int
    session_max_hours: int
    connections_max: int
    upload_timeout_s: int
    webhook: str = field(repr=False)  # its path may be a secret
    webhook_secret: str = field(repr=False)
    header_timeout_s: int

    @property
    def worker_threads(self) -> int:
        """`threads`, with 0 read as the cores this process may use."""
        if self.threads:
            return self.threads
        if hasattr(os, "sched_getaffinity"):  # honours taskset and containers; not on every system
            return len(os.sched_getaffinity(0))
        return os.cpu_count() or 1


def load_settings(
    *,
    environ: Mapping[str, str] | None = None,
    folder: Path | None = None,
    flags: Mapping[str, object] | None = None,
) -> Settings:
    """The settings from all sources; every problem is told in one InvalidConfig.

    `flags` come from the command line; those that are None were not given.
    """
    known = {row.name: row for row in SETTINGS}
    values: dict[str, object] = {row.name: row.default for row in SETTINGS}
    problems: list[str] = []
    environ = os.environ if environ is None else environ
    if environ.get("XDG_DATA_HOME"):
        values["db"] = f"sqlite:///{environ['XDG_DATA_HOME']}/drivetrain/drivetrain.db"
    for source, given in _sources(environ, Path.cwd() if folder is None else folder, flags or {}, problems):
        for name, raw in given.items():
            row = known.get(name)
            if row is None:
                near = difflib.get_close_matches(name, known, n=1)
                problems.append(f"{source} has no setting {name!r}" + (f" (did you mean {near[0]!r}?)" if near else ""))
                continue
            try:
                values[name] = _parse(row, raw)
            except ValueError as exc:
                problems.append(f"{source} sets {name} to {repr(raw)[:80]}: {exc}")
    if problems:
        raise InvalidConfig(
            "settings",
            got="; ".join(problems),
            want="names and values of `drivetrain serve --help` and docs/settings.md",
        )
    values["cache_dir"] = Path(str(values["cache_dir"])).expanduser()
    return Settings(**cast(dict[str, Any], values))


def _sources(
    environ: Mapping[str, str], folder: Path, flags: Mapping[str, object], problems: list[str]
) -> list[tuple[str, dict[str, object]]]:
    sources: list[tuple[str, dict[str, object]]] = []
    file = folder / "drivetrain.toml"
    if file.is_file():
        import tomllib  # most folders have no such file

        try:
            sources.append((str(file), tomllib.loads(file.read_text("utf-8"))))
        except (tomllib.TOMLDecodeError, UnicodeDecodeError) as exc:
            problems.append(f"{file} is not TOML: {exc}")
    from_env: dict[str, object] = {
        key.removeprefix(ENV_PREFIX).lower(): value
        for key, value in environ.items()
        if key.startswith(ENV_PREFIX) and key not in _OUTSIDE
    }
    sources.append(("the environment", from_env))
    sources.append(("the command line", {name: value for name, value in flags.items() if value is not None}))
    return sources


def _parse(row: Setting, raw: object) -> str | int:
    if row.low is None:
        if not isinstance(raw, str | Path) or not str(raw):
            raise ValueError(f"want text, the {row.unit}")
        return str(raw)
    allowed = f"a whole number ({row.unit}), at least {row.low}" + (f", at most {row.high}" if row.high else "")
    try:
        number = int(raw) if isinstance(raw, str | int) and not isinstance(raw, bool) else None
    except ValueError:
        number = None
    if number is None or number < row.low or (row.high is not None and number > row.high):
        raise ValueError(f"want {allowed}")
    return number
