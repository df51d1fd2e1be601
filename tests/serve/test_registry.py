"""Several models, versions, and swaps while requests run."""

from __future__ import annotations

import asyncio
import threading
import time
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import httpx
import pytest

from drivetrain.errors import BundleRefused, NotFound, Unavailable
from drivetrain.runtime.batch_types import PictureJob
from drivetrain.serve.registry import ModelRegistry
from drivetrain.serve.server import start_server

from .fakes import WAIT_S, FakeModel, call, picture, until
from .tiny import archive, tiny_app, write


class FakeBatcher:
    """Remembers whether it was closed."""

    def __init__(self) -> None:
        self.is_closed = False
        self.why: str | None = None
        self.pending = 0

    def why_not_ready(self) -> str | None:
        return self.why

    def check_room(self, pictures: int = 1) -> None:
        pass

    def submit(self, pictures: Sequence[PictureJob], *, deadline_s: float | None = None) -> list[Future[Any]]:
        raise NotImplementedError

    def submit_pixels(self, pixels: Any, *, deadline_s: float | None = None) -> list[Future[Any]]:
        raise NotImplementedError

    def close(self, *, drain_s: float) -> None:
        self.is_closed = True


def fake(name: str, digits: str = "0" * 12) -> FakeModel:
    return FakeModel(name=name, version=f"{name}@{digits}")


def registry(folder: Path | None = None, *, drain_s: float = WAIT_S) -> ModelRegistry:
    def open_model(path: Path) -> FakeModel:
        name, _, digits = path.read_text().partition(" ")
        if name == "broken":
            raise BundleRefused("bundle_zip", str(path), got="no zip", want="a zip")
        return fake(name, digits)

    return ModelRegistry(
        open_model=open_model, open_batcher=lambda _: FakeBatcher(), folder=folder, drain_s=drain_s, clock=lambda: 7.0
    )


def is_closed(served: Any) -> bool:
    return bool(served.batcher.is_closed)


def wait_until_closed(served: Any) -> None:
    asyncio.run(until(lambda: is_closed(served)))


def test_default_is_the_first_and_names_find_their_model() -> None:
    models = registry()
    with pytest.raises(Unavailable, match="none loaded"):
        models.get()
    models.add(fake("cats"))
    models.add(fake("ants"))
    assert models.names() == ["cats", "ants"]
    assert models.default == models.get().name == "cats"
    assert models.get("ants").version == "ants@000000000000"
    assert models.get("ants").loaded_at == 7.0
    with pytest.raises(NotFound, match="one of ants, cats"):
        models.get("dogs")


def test_a_version_is_found_by_its_digits_and_as_answers_write_it() -> None:
    models = registry()
    old, new = models.add(fake("cats", "aaaaaaaaaaaa")), models.add(fake("cats", "bbbbbbbbbbbb"), keep=True)
    assert models.get("cats") is new
    assert models.get("cats", "aaaaaaaaaaaa") is models.get(None, "cats@aaaaaaaaaaaa") is old
    assert models.get("cats@aaaaaaaaaaaa") is old
    assert [one.digest for one in models.versions("cats")] == ["aaaaaaaaaaaa", "bbbbbbbbbbbb"]
    with pytest.raises(NotFound, match="version: got cc; want one of aaaaaaaaaaaa, bbbbbbbbbbbb of cats"):
        models.get("cats", "cc")


def test_without_keep_a_new_version_takes_the_place_of_all_others() -> None:
    models = registry()
    old = [models.add(fake("cats", "a" * 12)), models.add(fake("cats", "b" * 12), keep=True)]
    new = models.add(fake("cats", "c" * 12))
    assert models.all() == [new]
    for one in old:
        wait_until_closed(one)
    assert not is_closed(new)


def test_the_same_version_again_replaces_itself_even_with_keep() -> None:
    models = registry()
    old = models.add(fake("cats"))
    new = models.add(fake("cats"), keep=True)
    assert models.all() == [new]
    wait_until_closed(old)


def test_who_holds_a_version_ends_on_it() -> None:
    models = registry()
    models.add(fake("cats", "a" * 12))
    with models.hold() as first, models.hold() as second:
        assert first is second
        models.add(fake("cats", "b" * 12))
        models.unload("cats")
        time.sleep(0.05)
        assert not is_closed(first)
    wait_until_closed(first)


def test_one_held_too_long_is_closed_all_the_same() -> None:
    models = registry(drain_s=0.05)
    models.add(fake("cats", "a" * 12))
    with models.hold() as held:
        models.add(fake("cats", "b" * 12))
        wait_until_closed(held)


def test_unload_of_one_version_and_of_all() -> None:
    models = registry()
    old, new = models.add(fake("cats", "a" * 12)), models.add(fake("cats", "b" * 12), keep=True)
    models.add(fake("ants"))
    assert models.unload("cats", "b" * 12) == [new]
    assert models.get("cats") is old
    assert models.unload("cats") == [old]
    with pytest.raises(NotFound, match="want ants"):  # the default is gone: nobody is sent to another model unasked
        models.get()
    models.unload("ants")
    with pytest.raises(Unavailable):
        models.get()
    models.add(fake("dogs"))
    assert models.default == "dogs"


def test_readiness_is_that_of_every_model() -> None:
    models = registry()
    assert models.why_not_ready() == "no model is loaded"
    models.add(fake("cats"))
    ants = models.add(fake("ants"))
    assert models.why_not_ready() is None
    ants.batcher.why = "its threads hang"  # type: ignore[attr-defined]
    assert models.why_not_ready() == "ants@000000000000: its threads hang"
    models.close(drain_s=1)
    assert models.why_not_ready() == "the server is shutting down"
    models.open()
    assert models.why_not_ready() is None
    assert not is_closed(models.get("ants"))


def test_a_closed_registry_takes_no_model() -> None:
    models = registry()
    models.close(drain_s=1)
    with pytest.raises(Unavailable, match="before shutdown"):
        models.add(fake("cats"))
    assert models.names() == []


def test_load_by_name_reads_the_folder_and_nothing_else(tmp_path: Path) -> None:
    folder = tmp_path / "models"
    folder.mkdir()
    for name, text in (("one", "cats aaaaaaaaaaaa"), (".hidden", "x y")):
        (folder / f"{name}.dt").write_text(text)
    (tmp_path / "outside.dt").write_text("secret bbbbbbbbbbbb")
    models = registry(folder)
    assert models.load_named("one").version == "cats@aaaaaaaaaaaa"
    for name in (
        "../outside",
        "..",
        "",
        ".hidden",
        "one.dt",
        "/etc/passwd",
        str(tmp_path / "outside"),
        "a\0b",
        "x" * 300,
    ):
        with pytest.raises(NotFound) as caught:
            models.load_named(name)
        assert str(tmp_path) not in caught.value.message.replace(name, "")
    with pytest.raises(NotFound, match="--models FOLDER"):
        registry().load_named("one")


def test_a_file_that_is_refused_changes_nothing_and_tells_no_path(tmp_path: Path) -> None:
    (tmp_path / "good.dt").write_text("cats aaaaaaaaaaaa")
    (tmp_path / "bad.dt").write_text("broken")
    models = registry(tmp_path)
    served = models.load_named("good")
    with pytest.raises(BundleRefused) as caught:
        models.load_named("bad")
    assert caught.value.code == "bundle_zip"
    assert "bad.dt" in caught.value.message
    assert str(tmp_path) not in caught.value.message
    assert models.all() == [served]


def test_what_else_goes_wrong_while_loading_stands_in_the_index(tmp_path: Path) -> None:
    faults = {
        "gone": NotFound("model", got=str(tmp_path), want="a file"),
        "busy": Unavailable("model", got=1, want="2"),
    }

    def open_model(path: Path) -> FakeModel:
        raise faults[path.stem]

    models = ModelRegistry(open_model=open_model, open_batcher=lambda _: FakeBatcher(), folder=tmp_path)
    for name in faults:
        (tmp_path / f"{name}.dt").write_text("")
    with pytest.raises(NotFound) as caught:
        models.load_named("gone")
    assert str(tmp_path) not in caught.value.message
    with pytest.raises(Unavailable):
        models.load_named("busy")
    assert [(row.name, row.reason) for row in models.index()] == [("busy", "unavailable"), ("gone", "no such file")]


def test_index_tells_files_and_models(tmp_path: Path) -> None:
    for name, text in (("good", "cats aaaaaaaaaaaa"), ("bad", "broken"), ("later", "dogs cccccccccccc")):
        (tmp_path / f"{name}.dt").write_text(text)
    models = registry(tmp_path)
    models.load_named("good")
    with pytest.raises(BundleRefused):
        models.load_named("bad")
    models.add(fake("elsewhere"))
    rows = [(row.name, row.version, row.state, row.reason, row.file) for row in models.index()]
    assert rows == [
        ("bad", "", "UNAVAILABLE", "bundle_zip", "bad"),
        ("cats", "aaaaaaaaaaaa", "READY", "", "good"),  # loaded as "good", asked as "cats"
        ("elsewhere", "000000000000", "READY", "", ""),
        ("later", "", "UNAVAILABLE", "not loaded", "later"),
    ]
    models.unload("cats")
    assert [(row.name, row.file) for row in models.index()][-1] == ("later", "later")
    assert ("good", "good") in [(row.name, row.file) for row in models.index()]


def test_hammered_through_swaps_no_request_fails(tmp_path: Path) -> None:
    """Eight clients ask by name and without one while the file is swapped; every answer is of a version that lived."""
    swaps, seen, faults = 5, Counter[str](), list[str]()
    is_over = threading.Event()
    body = picture(size=(32, 32))

    def hammer(url: str, number: int) -> None:
        path = "/predict" if number % 2 else "/v2/models/tiny/infer"
        headers = {"Content-Type": "image/png"}
        if number % 2 == 0:
            headers["Inference-Header-Content-Length"] = "0"
        with httpx.Client(base_url=url, timeout=WAIT_S) as client:
            while not is_over.is_set():
                reply = client.post(path, content=body, headers=headers)
                if reply.status_code != 200:
                    faults.append(reply.text)
                    return
                told = reply.json()
                seen[told["version"].partition("@")[2] if number % 2 else told["model_version"]] += 1

    def swap(admin: httpx.Client, seed: int) -> None:
        write(tmp_path / "models", "tiny", archive(seed=seed))
        reply = admin.post("/v2/repository/models/tiny/load")
        assert reply.status_code == 200, reply.text
        assert len(reply.json()["versions"]) == 1
        goal = seen.total() + 8
        asyncio.run(until(lambda: seen.total() > goal or bool(faults)))

    with tiny_app(tmp_path) as app, start_server(app) as running:
        threads = [threading.Thread(target=hammer, args=(running.url, number)) for number in range(8)]
        for thread in threads:
            thread.start()
        try:
            with httpx.Client(base_url=running.url, timeout=WAIT_S) as admin:
                for seed in range(swaps):
                    swap(admin, seed)
        finally:
            is_over.set()
            for thread in threads:
                thread.join()
    assert faults == []
    assert len(seen) >= swaps  # each version answered


def test_models_and_versions_over_http(tmp_path: Path) -> None:
    with tiny_app(tmp_path) as app:
        write(tmp_path / "models", "other", archive("other"))
        write(tmp_path / "models", "newer", archive(seed=1))
        assert call(app, "POST", "/v2/repository/models/other/load").json()["name"] == "other"
        first = call(app, "GET", "/model").json()["version"]
        kept = call(app, "POST", "/v2/repository/models/newer/load", json={"parameters": {"keep": True}}).json()
        assert kept["name"] == "tiny"
        assert kept["versions"][0] == first.partition("@")[2]
        listed = call(app, "GET", "/models").json()["models"]
        assert [(one["name"], one["is_default"]) for one in listed] == [
            ("tiny", True),
            ("tiny", True),
            ("other", False),
        ]
        assert listed[1]["version"] == first
        ask = {"content": picture(), "headers": {"Content-Type": "image/png"}}
        assert call(app, "POST", "/predict", **ask).json()["version"] == listed[0]["version"]
        assert call(app, "POST", "/predict?model=other", **ask).json()["version"] == listed[2]["version"]
        old = call(app, "POST", f"/predict?model=tiny&version={first.partition('@')[2]}", **ask)
        assert old.json()["version"] == first
        for query in ("model=none", "model=tiny&version=none"):
            reply = call(app, "POST", f"/predict?{query}", **ask)
            assert (reply.status_code, reply.json()["code"]) == (404, "not_found")
        assert call(app, "POST", "/predict?model=", **ask).status_code == 422
