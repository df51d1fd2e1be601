"""The search engine's adapter, against a server of our own that speaks for duckduckgo.com behind a proxy."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import ssl
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from drivetrain.data.gather.search import DdgsSearch, Found, ImageSearch
from drivetrain.errors import MissingExtra, Unavailable

from .web import CA_FILE, SERVER_FILE


class SearchServer:
    """A proxy that itself answers for every host it is asked to connect to, with a certificate of these tests."""

    def __init__(self, pages: Sequence[Sequence[dict[str, Any]]], *, status: int = 200) -> None:
        self.pages = pages
        self.status = status
        self.asked: list[tuple[str, dict[str, list[str]]]] = []
        self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._context.load_cert_chain(SERVER_FILE)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        self._threads: list[threading.Thread] = []

    def serve(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                connection, _ = self._listener.accept()
                thread = threading.Thread(target=self._talk, args=(connection,), daemon=True)
                thread.start()

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def _talk(self, connection: socket.socket) -> None:
        with contextlib.suppress(OSError), connection:
            connection.settimeout(20)
            host = self._read_head(connection).split()[1].partition(":")[0]  # CONNECT duckduckgo.com:443
            connection.sendall(b"HTTP/1.1 200 Connection established\r\n\r\n")
            with self._context.wrap_socket(connection, server_side=True) as secure:
                while head := self._read_head(secure):
                    secure.sendall(self._answer(host, head.split()[1]))

    @staticmethod
    def _read_head(connection: socket.socket) -> str:
        head = b""
        while not head.endswith(b"\r\n\r\n"):
            if not (some := connection.recv(1)):
                return ""
            head += some
        return head.decode("latin-1")

    def _answer(self, host: str, target: str) -> bytes:
        url = urlsplit(target)
        asked = parse_qs(url.query)
        self.asked.append((host + url.path, asked))
        status, body = self.status, b'<html>vqd="4-17"</html>'
        if url.path == "/i.js":
            number = int(asked.get("s", ["0"])[0]) // 100
            body = json.dumps({"results": self.pages[number] if number < len(self.pages) else []}).encode()
        head = f"HTTP/1.1 {status} x\r\nContent-Type: text/html\r\nContent-Length: {len(body)}\r\n\r\n"
        return head.encode() + body


@contextlib.contextmanager
def serving(server: SearchServer) -> Iterator[SearchServer]:
    thread = threading.Thread(target=server.serve, daemon=True)
    thread.start()
    yield server
    server.close()
    thread.join(timeout=20)


def answer(number: int) -> dict[str, Any]:
    return {
        "title": f"bear {number}",
        "image": f"https://pictures.test/{number}.jpg",
        "thumbnail": f"https://thumbs.test/{number}.jpg",
        "url": f"https://pictures.test/page/{number}",
        "height": 480,
        "width": 640,
        "source": "Bing",
    }


def make(server: SearchServer, sleeps: list[float] | None = None, **options: Any) -> ImageSearch:
    return DdgsSearch(
        proxy=server.url,
        verify=str(CA_FILE),
        backend="duckduckgo",
        sleep=[].append if sleeps is None else sleeps.append,
        **options,
    )


def test_the_answers_of_all_pages_each_once() -> None:
    pages = [[answer(n) for n in range(100)], [answer(n) for n in range(90, 190)], [answer(n) for n in range(190, 200)]]
    sleeps: list[float] = []
    with serving(SearchServer(pages)) as server:
        found = make(server, sleeps, pause_s=0.25).find("grizzly bear", most=150)
    assert found == [
        Found(url=f"https://pictures.test/{n}.jpg", page=f"https://pictures.test/page/{n}") for n in range(150)
    ]
    assert sleeps == [0.25]
    assert [place for place, _ in server.asked] == ["duckduckgo.com/", "duckduckgo.com/i.js"] * 2
    assert {tuple(asked["q"]) for _, asked in server.asked} == {("grizzly bear",)}


def test_a_search_ends_where_nothing_new_comes() -> None:
    with serving(SearchServer([[answer(n) for n in range(5)]])) as server:
        assert len(make(server).find("bear", most=150)) == 5
    with serving(SearchServer([[answer(n) for n in range(5)]] * 9)) as server:
        assert len(make(server).find("bear", most=150)) == 5
        assert len(server.asked) == 4


def test_answers_without_a_picture_are_passed_over() -> None:
    rows = [answer(1), answer(2) | {"image": ""}, answer(3) | {"image": None, "url": None}]
    with serving(SearchServer([rows])) as server:
        assert [found.url for found in make(server).find("bear", most=5)] == ["https://pictures.test/1.jpg"]


@pytest.mark.parametrize(("pages", "status"), [([], 200), ([[answer(1)]], 403)])
def test_a_search_without_an_answer_is_told(pages: list[list[dict[str, Any]]], status: int) -> None:
    with serving(SearchServer(pages, status=status)) as server, pytest.raises(Unavailable) as caught:
        make(server).find("bear", most=5)
    assert caught.value.message.startswith("search for 'bear': got No results found.; want pictures. Search engines ")


def test_a_search_engine_that_cannot_be_reached_is_told() -> None:
    with serving(SearchServer([])) as server:
        pass
    with pytest.raises(Unavailable, match="search for 'bear': got "):
        make(server, timeout_s=2).find("bear", most=5)


@pytest.mark.parametrize("missing", ["ddgs", "lxml"])
def test_a_missing_package_is_a_missing_extra_or_a_fault(missing: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, missing, None)
    for name in [name for name in sys.modules if missing == "lxml" and name.partition(".")[0] == "ddgs"]:
        monkeypatch.delitem(sys.modules, name)
    with pytest.raises(MissingExtra if missing == "ddgs" else ModuleNotFoundError):
        DdgsSearch()


@pytest.mark.parametrize("missing", ["ddgs", "lxml"])
def test_without_the_extra_it_says_which_one(missing: str, tmp_path: Any) -> None:
    script = f"""
import sys
from importlib.abc import MetaPathFinder

class Absent(MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] == {missing!r}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)

sys.meta_path.insert(0, Absent())
from drivetrain.cli.main import main
main(["gather", "dest", "--search", "--class", "bear", "--json"])
"""
    done = subprocess.run(
        [sys.executable, "-c", script],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 1
    if missing == "ddgs":
        assert json.loads(done.stdout)["error"]["code"] == "missing_extra"
        assert "pip install 'drivetrain[search]'" in done.stderr
    else:  # a broken install is no missing extra
        assert "No module named 'lxml" in done.stderr
    assert list(tmp_path.iterdir()) == []
