"""Settings: who has the last word, and what a mistake is answered with."""

from __future__ import annotations

import os
from dataclasses import fields
from pathlib import Path

import pytest

from drivetrain.errors import InvalidConfig
from drivetrain.settings import SETTINGS, Setting, Settings, load_settings

NUMBERS = [row for row in SETTINGS if row.low is not None]
TEXTS = [row for row in SETTINGS if row.low is None]


def write_file(folder: Path, text: str) -> None:
    (folder / "drivetrain.toml").write_text(text, encoding="utf-8")


def problems(folder: Path, *, environ: dict[str, str] | None = None, flags: dict[str, object] | None = None) -> str:
    with pytest.raises(InvalidConfig) as caught:
        load_settings(environ=environ or {}, folder=folder, flags=flags)
    assert caught.value.field == "settings"
    assert "docs/settings.md" in caught.value.message
    return caught.value.got


def test_every_row_has_a_field_and_the_reverse() -> None:
    assert [row.name for row in SETTINGS] == [field.name for field in fields(Settings)]


def test_the_defaults_are_the_table(tmp_path: Path) -> None:
    settings = load_settings(environ={}, folder=tmp_path)
    for row in SETTINGS:
        want = Path("~/.cache/drivetrain").expanduser() if row.name == "cache_dir" else row.default
        assert getattr(settings, row.name) == want
    assert settings.host == "127.0.0.1"  # nobody else reaches a server that was started without a thought


@pytest.mark.parametrize("row", NUMBERS, ids=lambda row: row.name)
def test_default_gives_way_to_file_to_environment_to_flag(row: Setting, tmp_path: Path) -> None:
    values = row.high + 1 if row.high else 10**12
    file, env, flag = ((int(row.default) + step) % values for step in (1, 2, 3))
    name, key = row.name, f"DRIVETRAIN_{row.name.upper()}"

    write_file(tmp_path, f"{name} = {file}\n")
    assert getattr(load_settings(environ={}, folder=tmp_path), name) == file
    assert getattr(load_settings(environ={key: str(env)}, folder=tmp_path), name) == env
    assert getattr(load_settings(environ={key: str(env)}, folder=tmp_path, flags={name: flag}), name) == flag
    assert getattr(load_settings(environ={key: str(env)}, folder=tmp_path, flags={name: None}), name) == env


@pytest.mark.parametrize("row", TEXTS, ids=lambda row: row.name)
def test_texts_give_way_in_the_same_order(row: Setting, tmp_path: Path) -> None:
    name, key = row.name, f"DRIVETRAIN_{row.name.upper()}"

    write_file(tmp_path, f'{name} = "from-file"\n')
    assert str(getattr(load_settings(environ={}, folder=tmp_path), name)) == "from-file"
    assert str(getattr(load_settings(environ={key: "from-env"}, folder=tmp_path), name)) == "from-env"
    flags = {name: Path("from-flag")}
    assert str(getattr(load_settings(environ={key: "from-env"}, folder=tmp_path, flags=flags), name)) == "from-flag"


def test_the_process_is_read_when_nothing_is_passed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_file(tmp_path, "port = 1234\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DRIVETRAIN_HOST", "10.0.0.1")
    settings = load_settings()
    assert (settings.host, settings.port) == ("10.0.0.1", 1234)


def test_other_programs_variables_and_the_tests_own_are_left_alone(tmp_path: Path) -> None:
    assert load_settings(environ={"PORT": "1", "DRIVETRAIN_DATA": "/photographs"}, folder=tmp_path).port == 8000


def test_home_is_filled_in(tmp_path: Path) -> None:
    settings = load_settings(environ={"DRIVETRAIN_CACHE_DIR": "~/there"}, folder=tmp_path)
    assert settings.cache_dir == Path.home() / "there"


@pytest.mark.parametrize(
    ("environ", "file", "flags", "said"),
    [
        ({"DRIVETRAIN_PROT": "1"}, "", {}, "the environment has no setting 'prot' (did you mean 'port'?)"),
        ({}, "thread = 1", {}, "drivetrain.toml has no setting 'thread' (did you mean 'threads'?)"),
        ({}, "", {"hosts": "x"}, "the command line has no setting 'hosts' (did you mean 'host'?)"),
        ({}, "zzz = 1", {}, "drivetrain.toml has no setting 'zzz'"),
        ({}, "[tool]\nport = 1", {}, "drivetrain.toml has no setting 'tool'"),
    ],
)
def test_an_unknown_name_stops_with_its_nearest(
    environ: dict[str, str], file: str, flags: dict[str, object], said: str, tmp_path: Path
) -> None:
    write_file(tmp_path, file)
    assert problems(tmp_path, environ=environ, flags=flags).endswith(said)


@pytest.mark.parametrize(
    ("environ", "file", "said"),
    [
        ({"DRIVETRAIN_PORT": "many"}, "", "the environment sets port to 'many': want a whole number"),
        (
            {"DRIVETRAIN_PORT": "-1"},
            "",
            "the environment sets port to '-1': want a whole number (port), at least 0, at most 65535",
        ),
        ({"DRIVETRAIN_HOST": ""}, "", "the environment sets host to '': want"),
        ({}, "threads = 1.5", "drivetrain.toml sets threads to 1.5: want a whole number"),
        ({}, "threads = true", "drivetrain.toml sets threads to True: want a whole number"),
        ({}, "host = 3", "drivetrain.toml sets host to 3: want"),
        ({}, "image_max_bytes = 999", "sets image_max_bytes to 999: want a whole number (bytes), at least 1000"),
        ({}, "port = ", "drivetrain.toml is not TOML"),
    ],
)
def test_a_bad_value_is_named_with_its_source(environ: dict[str, str], file: str, said: str, tmp_path: Path) -> None:
    write_file(tmp_path, file)
    assert said in problems(tmp_path, environ=environ)


def test_a_file_that_is_not_utf8_is_named(tmp_path: Path) -> None:
    (tmp_path / "drivetrain.toml").write_bytes(b'host = "\xff"')
    assert "drivetrain.toml is not TOML" in problems(tmp_path)


def test_all_problems_come_in_one_error(tmp_path: Path) -> None:
    write_file(tmp_path, 'prot = 1\nthreads = "two"\n')
    said = problems(tmp_path, environ={"DRIVETRAIN_HOSTS": "x"}, flags={"port": -1})
    assert [said.count(word) for word in ("'prot'", "threads to", "'hosts'", "port to -1")] == [1, 1, 1, 1]


def test_threads_are_counted_when_not_given(tmp_path: Path) -> None:
    load = load_settings(environ={}, folder=tmp_path)
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    assert load.worker_threads == cores
    assert load_settings(environ={"DRIVETRAIN_THREADS": "3"}, folder=tmp_path).worker_threads == 3
