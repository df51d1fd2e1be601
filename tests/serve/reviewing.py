"""A server with pictures that wait for people, and the people."""

from __future__ import annotations

import html
import importlib.util
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any

import httpx

from drivetrain.serve.app import create_app
from drivetrain.store.deployments import Deployment
from drivetrain.store.reviews import Task
from drivetrain.store.store import Store, open_store

from .doors import Door
from .fakes import FakeModel, settings


def _flows(name: str) -> ModuleType:
    """tests/flows/NAME.py, as part of that folder; the folders of tests are no packages of one another."""
    package = "flows_for_serve"
    folder = Path(__file__).parents[1] / "flows"
    if package not in sys.modules:
        spec = importlib.util.spec_from_file_location(
            package, folder / "__init__.py", submodule_search_locations=[str(folder)]
        )
        assert spec
        assert spec.loader
        sys.modules[package] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(sys.modules[package])
    return importlib.import_module(f"{package}.{name}")


_QUEUE, _TRAFFIC = _flows("review_queue"), _flows("rollout_traffic")
BEARS, ask, draw, say, start = _QUEUE.BEARS, _QUEUE.ask, _QUEUE.draw, _QUEUE.say, _QUEUE.start
Clock, write_bundle = _TRAFFIC.Clock, _TRAFFIC.write_bundle


@dataclass
class Told:
    """In place of what obeys roll-outs: whom it was told of."""

    settled_tasks: list[Task] = field(default_factory=list)

    def settled(self, task: Task) -> None:
        self.settled_tasks.append(task)


@dataclass
class Queue:
    """A roll-out's queue behind a server."""

    door: Door
    store: Store
    clock: Any
    deployment: Deployment
    told: Told

    def ask(self, **given: Any) -> Task:
        task: Task = ask(self.store, self.deployment, **given)
        return task

    def person(self, name: str, *roles: str) -> Reviewer:
        return Reviewer(self.door.person(name, *(roles or ("review",))))

    def wait(self, seconds: float) -> None:
        self.clock.now += seconds


@dataclass
class Reviewer:
    """Someone with a browser that runs no scripts: follows links, sends the forms that the page holds."""

    door: Door
    page: httpx.Response | None = None

    @property
    def text(self) -> str:
        assert self.page is not None
        return self.page.text

    @property
    def heading(self) -> str:
        found = re.search(r"<h1>(.*?)</h1>", self.text)
        assert found
        return html.unescape(found[1])

    @property
    def task_id(self) -> str:
        assert self.page is not None
        return str(self.page.url).split("/task/")[1].partition("?")[0].partition("/")[0]

    @property
    def labels(self) -> list[str]:
        return [html.unescape(one) for one in re.findall(r'name="label" value="([^"]*)"', self.text)]

    def get(self, path: str) -> httpx.Response:
        self.page = self._follow(self.door.get(path, headers={"Accept": "text/html"}))
        return self.page

    def next(self, query: str = "") -> httpx.Response:
        return self.get(f"/review/next{query}")

    def press(self, action: str, **button: str) -> httpx.Response:
        """Send the form whose address ends with `action`, by a button that is on the page."""
        assert self.page is not None
        form = re.search(rf'<form[^>]*action="([^"]*/{action})".*?</form>', self.text, re.DOTALL)
        assert form, f"no form {action} on this page"
        for name, value in button.items():
            assert f'name="{name}" value="{value}"' in html.unescape(form[0])
        hidden = re.findall(r'<input type="hidden" name="(\w+)" value="([^"]*)">', form[0])
        fields = {name: html.unescape(value) for name, value in hidden}
        url = self.page.url.join(html.unescape(form[1]))
        self.page = self._follow(self.door.post(url.raw_path.decode(), data={**fields, **button}))
        return self.page

    def answer(self, label: str) -> httpx.Response:
        return self.press("answer", label=label)

    def _follow(self, reply: httpx.Response) -> httpx.Response:
        while reply.status_code == 303:
            url = reply.url.join(reply.headers["Location"])
            reply = self.door.get(url.raw_path.decode(), headers={"Accept": "text/html"})
        return reply


@contextmanager
def open_queue(folder: Path, **changed: object) -> Iterator[Queue]:
    """A server whose clock stands still; no picture of known label comes unless it is asked for."""
    clock = Clock()
    with open_store(f"sqlite:///{folder}/review.db", clock=clock) as store:
        deployment = start(store, write_bundle(folder / "bears.dt"))
        given = settings(**{"review_gold_percent": 0, **changed})
        app = create_app(FakeModel(), given, store=store)
        told = Told()
        app.state.rollouts = told
        yield Queue(Door(app, store), store, clock, deployment, told)
