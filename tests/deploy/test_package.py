"""`drivetrain package`: a folder that is ready to push, and that starts where nothing but it is there."""

from __future__ import annotations

import importlib.util
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType

import httpx
import pytest
import yaml
from PIL import Image

from drivetrain.cli.main import main
from drivetrain.errors import BundleRefused, Conflict, InvalidConfig, NotFound
from drivetrain.flows.package import TARGETS, Packaged, Target, package_model
from drivetrain.flows.package_files import Contents, docker_files, spaces_files
from drivetrain.flows.pins import pin_base_install
from drivetrain.flows.wheel import build_wheel
from drivetrain.settings import SETTINGS

from . import dockerfile

ROOT = Path(__file__).parents[2]
KNOWN = {f"DRIVETRAIN_{row.name.upper()}" for row in SETTINGS}


def forge() -> ModuleType:
    """tests/bundle/forge.py; the folders of tests are no packages of one another."""
    if "deploy_forge" not in sys.modules:
        spec = importlib.util.spec_from_file_location("deploy_forge", ROOT / "tests" / "bundle" / "forge.py")
        assert spec
        assert spec.loader
        sys.modules["deploy_forge"] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(sys.modules["deploy_forge"])
    return sys.modules["deploy_forge"]


def write_bundle(folder: Path, **changed: object) -> Path:
    path = folder / "tiny.dt"
    path.write_bytes(forge().tiny_parts().changed(**changed).archive())
    return path


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_bundle(tmp_path_factory.mktemp("bundle"))


@pytest.fixture(scope="module")
def made(bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Packaged]:
    folder = tmp_path_factory.mktemp("packaged")
    return {target: package_model(bundle, folder / target, target=target) for target in TARGETS}


@pytest.mark.parametrize("target", TARGETS)
def test_the_folder_holds_what_it_says_and_no_more(target: Target, made: dict[str, Packaged]) -> None:
    folder = made[target].folder
    found = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
    [wheel] = folder.glob("wheels/*.whl")
    extra = [".gitattributes"] if target == "spaces" else []
    always = [".dockerignore", "Dockerfile", "MODEL_CARD.md", "README.md", "model.dt", "requirements.txt"]
    assert found == sorted([*always, f"wheels/{wheel.name}", *extra])
    assert found == list(made[target].files)
    assert made[target].n_bytes == sum((folder / name).stat().st_size for name in found)
    assert not list(folder.parent.glob(".*"))  # nothing half-written beside it


@pytest.mark.parametrize("target", TARGETS)
def test_the_dockerfile_is_clean_and_its_settings_exist(target: Target, made: dict[str, Packaged]) -> None:
    folder = made[target].folder
    assert dockerfile.problems(folder / "Dockerfile", context=folder) == []
    file = dockerfile.read(folder / "Dockerfile", context=folder)
    assert {name for name in file.env if name.startswith("DRIVETRAIN_")} <= KNOWN
    assert file.command == ["drivetrain", "serve", "model.dt"]
    assert f"127.0.0.1:{file.last('EXPOSE')}/health/ready" in file.probe[-1]
    assert ("DRIVETRAIN_INSECURE" in file.env) == (target == "spaces")  # the image for a network of one's own asks who


def test_the_pins_are_those_of_the_project_for_the_base_install(made: dict[str, Packaged]) -> None:
    def plain(name: str) -> str:
        return re.sub(r"[-_.]+", "-", name).lower()

    lines = (ROOT / "constraints.txt").read_text("utf-8").splitlines()
    wanted = {plain(line.partition("==")[0]): line.partition("==")[2] for line in lines if "==" in line}
    text = (made["docker"].folder / "requirements.txt").read_text("utf-8")
    pins = dict(line.split("==") for line in text.splitlines() if "==" in line)
    assert {"fastapi", "onnxruntime", "pillow", "uvicorn", "sqlalchemy", "prometheus-client", "starlette"} <= set(pins)
    assert not {"torch", "scikit-learn", "matplotlib", "onnx", "pytest"} & set(pins)
    assert {name: pins[name] for name in pins if pins[name] != wanted.get(name)} == {}
    assert [line for line in text.splitlines() if line.startswith("./wheels/")]
    assert not re.search(r"(?i)index-url|find-links|file://|https?://|trusted-host", text)


def test_extras_of_what_is_needed_are_followed() -> None:
    assert [line for line in pin_base_install("mlflow-skinny") if line.startswith("uvicorn==")]
    names = [line.partition("==")[0] for line in pin_base_install()]
    assert names == sorted(set(names))


def test_the_wheel_is_this_package_byte_for_byte_and_pip_reads_it(made: dict[str, Packaged], tmp_path: Path) -> None:
    [path] = made["docker"].folder.glob("wheels/*.whl")
    assert path.read_bytes() == build_wheel()[1]
    with zipfile.ZipFile(path) as wheel:
        names = wheel.namelist()
        assert "drivetrain/serve/web/static/page.css" in names
        assert wheel.read("drivetrain/errors.py") == (ROOT / "src" / "drivetrain" / "errors.py").read_bytes()
        assert not [name for name in names if "__pycache__" in name or name.endswith(".pyc")]
    command = [
        sys.executable,
        "-m",
        "pip",
        "install",
        "-q",
        "--no-deps",
        "--no-index",
        "--target",
        tmp_path / "x",
        path,
    ]
    subprocess.run(command, check=True, timeout=120)
    assert (tmp_path / "x" / "drivetrain" / "py.typed").exists()


def test_the_readme_of_a_space_has_its_front_matter(made: dict[str, Packaged]) -> None:
    folder = made["spaces"].folder
    _, front, body = (folder / "README.md").read_text("utf-8").split("---\n", 2)
    told = yaml.safe_load(front)
    file = dockerfile.read(folder / "Dockerfile", context=folder)
    assert (told["sdk"], str(told["app_port"])) == ("docker", file.last("EXPOSE"))
    assert told["title"] == "tiny"
    assert len(told["emoji"]) == 1
    colours = {"red", "yellow", "green", "blue", "indigo", "purple", "pink", "gray"}
    assert {told["colorFrom"], told["colorTo"]} <= colours
    assert "without a key" in body
    assert "*.dt filter=lfs" in (folder / ".gitattributes").read_text("utf-8")


def test_names_from_a_bundle_steer_nothing() -> None:
    hostile = 'a"\n---\nsdk: gradio\n[x](http://evil)`<script>'
    contents = Contents(
        name=hostile,
        version=f"{hostile}@0123456789ab",
        classes=(hostile, "b"),
        statement=hostile,
        python="3.11",
        wheel="wheels/x.whl",
        pins=("a==1",),
        has_card=True,
    )
    for files in (docker_files(contents), spaces_files(contents)):
        for text in files.values():
            assert "<script>" not in text
            assert "](http" not in text
            assert "\nsdk: gradio" not in text
    _, front, _ = spaces_files(contents)["README.md"].split("---\n", 2)
    assert yaml.safe_load(front)["sdk"] == "docker"


def test_a_folder_that_holds_anything_is_left_as_it_is(bundle: Path, tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "notes.txt").write_text("keep")
    with pytest.raises(Conflict, match=r"which holds 1 files, 'notes.txt' among them.*Nothing is overwritten"):
        package_model(bundle, tmp_path / "mine", target="docker")
    (tmp_path / "file").write_text("keep")
    with pytest.raises(Conflict, match="which is no folder"):
        package_model(bundle, tmp_path / "file", target="docker")
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["file", "mine", "notes.txt"]


def test_an_empty_folder_is_filled_and_missing_ones_are_made(bundle: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    package_model(bundle, tmp_path / "empty", target="docker")
    package_model(bundle, tmp_path / "a" / "b", target="docker")
    assert (tmp_path / "empty" / "Dockerfile").exists()
    assert (tmp_path / "a" / "b" / "Dockerfile").exists()


def test_nothing_is_written_for_a_model_that_is_refused(bundle: Path, tmp_path: Path) -> None:
    damaged = tmp_path / "damaged.dt"
    content = bytearray(bundle.read_bytes())
    content[len(content) // 2] ^= 1
    damaged.write_bytes(bytes(content))
    with pytest.raises(BundleRefused):
        package_model(damaged, tmp_path / "out", target="docker")
    with pytest.raises(NotFound):
        package_model(tmp_path / "none.dt", tmp_path / "out", target="docker")
    with pytest.raises(InvalidConfig, match="target: got heroku; want docker or spaces"):
        package_model(bundle, tmp_path / "out", target="heroku")  # type: ignore[arg-type]
    assert [path.name for path in tmp_path.iterdir()] == ["damaged.dt"]


def test_what_fails_in_the_middle_leaves_nothing(bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(path: Path, data: bytes) -> None:
        if path.name == "model.dt":
            raise OSError(28, "No space left on device", str(path))
        path.write_bytes(data)

    monkeypatch.setattr("drivetrain.flows.package._write", fail)
    with pytest.raises(OSError, match="No space left"):
        package_model(bundle, tmp_path / "out", target="docker")
    assert list(tmp_path.iterdir()) == []


def test_the_command_tells_what_it_wrote(bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def run(*args: object) -> int:
        with pytest.raises(SystemExit) as ended:
            main([str(arg) for arg in args])
        assert isinstance(ended.value.code, int)
        return ended.value.code

    assert run("package", bundle, tmp_path / "one", "--target", "docker", "--json") == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["target"], told["folder"]) == ("docker", str(tmp_path / "one"))
    assert run("package", bundle, tmp_path / "two", "--target", "spaces") == 0
    assert "  Dockerfile\n" in capsys.readouterr().out
    assert run("package", bundle, tmp_path / "two", "--target", "spaces") == 1
    assert "Nothing is overwritten" in capsys.readouterr().err
    assert run("package", bundle, tmp_path / "three", "--target", "heroku") == 2
    assert run("package", bundle, tmp_path / "three") == 2  # which target is not guessed


# The folder alone, in a clean environment: the steps of its Dockerfile, without Docker.


@pytest.fixture(scope="module")
def venv(made: dict[str, Packaged], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Both folders install the same; made once, from what the Dockerfile copies and nothing else."""
    folder = made["docker"].folder
    file = dockerfile.read(folder / "Dockerfile", context=folder)
    build, where = tmp_path_factory.mktemp("build"), tmp_path_factory.mktemp("venv") / "drivetrain"
    file.copy_sent(build)
    file.install(build, venv=where)
    assert (folder / "requirements.txt").read_text() == (made["spaces"].folder / "requirements.txt").read_text()
    return where


@contextmanager
def running(folder: Path, venv: Path, data: Path) -> Iterator[str]:
    """The server as the last stage starts it: its files, its environment, its command; then its probe, then SIGTERM."""
    file = dockerfile.read(folder / "Dockerfile", context=folder)
    srv = data / "srv"
    srv.mkdir()
    shutil.copy(folder / "model.dt", srv)
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = str(free.getsockname()[1])
    env = {name: re.sub("/(data|tmp)/", f"{data}/", text) for name, text in file.env.items()}
    env |= {"PATH": f"{venv / 'bin'}:{os.environ['PATH']}", "DRIVETRAIN_PORT": port, "HOME": str(data / "none")}
    with (data / "log").open("wb") as log:
        process = subprocess.Popen(file.command, cwd=srv, env=env, stderr=log)
    try:
        probe = [text.replace(file.last("EXPOSE"), port) for text in file.probe]
        deadline = time.monotonic() + 120
        while subprocess.run(probe, env=env, stderr=subprocess.DEVNULL, check=False).returncode != 0:
            assert process.poll() is None, (data / "log").read_text()
            assert time.monotonic() < deadline, (data / "log").read_text()
        yield f"http://127.0.0.1:{port}"
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=60) == 0
        assert [path.name for path in srv.iterdir()] == ["model.dt"]  # the root file system may be read-only
    finally:
        process.kill()
        process.wait()


def a_picture(folder: Path) -> bytes:
    Image.new("RGB", (16, 16), "red").save(folder / "x.png")
    return (folder / "x.png").read_bytes()


@pytest.mark.slow
def test_the_docker_folder_serves_and_asks_for_a_key(made: dict[str, Packaged], venv: Path, tmp_path: Path) -> None:
    listed = subprocess.run([venv / "bin" / "pip", "list", "--format=json"], capture_output=True, text=True, check=True)
    here = {row["name"].lower() for row in json.loads(listed.stdout)}
    assert "drivetrain" in here
    assert not {"torch", "scikit-learn", "onnx", "pytest"} & here
    checked = subprocess.run([venv / "bin" / "pip", "check"], capture_output=True, text=True, check=False)
    assert checked.returncode == 0, checked.stdout
    folder = made["docker"].folder
    env = {"PATH": os.environ["PATH"], "DRIVETRAIN_DB": f"sqlite:///{tmp_path / 'drivetrain.db'}"}
    key = subprocess.run(
        [venv / "bin" / "drivetrain", "key", "create", "first"], env=env, capture_output=True, text=True, check=True
    )
    [secret] = re.findall(r"\bdt_\S+", key.stdout)
    with running(folder, venv, tmp_path) as url:
        picture, kind = a_picture(tmp_path), {"Content-Type": "image/png"}
        assert httpx.post(f"{url}/predict", content=picture, headers=kind).status_code == 401
        reply = httpx.post(f"{url}/predict", content=picture, headers=kind | {"Authorization": f"Bearer {secret}"})
        assert reply.status_code == 200
        assert reply.json()["version"] == made["docker"].version
        assert reply.json()["prediction_id"]
    assert secret not in (tmp_path / "log").read_text()
    assert json.loads((tmp_path / "log").read_text().splitlines()[-1])["logger"]  # the log is JSON


@pytest.mark.slow
def test_the_docker_folder_without_a_key_does_not_start(made: dict[str, Packaged], venv: Path, tmp_path: Path) -> None:
    with pytest.raises(AssertionError, match="nobody has a key"), running(made["docker"].folder, venv, tmp_path):
        pass


@pytest.mark.slow
def test_the_space_answers_everyone_and_may_be_framed(made: dict[str, Packaged], venv: Path, tmp_path: Path) -> None:
    with running(made["spaces"].folder, venv, tmp_path) as url:
        page = httpx.get(url)
        assert page.status_code == 200
        assert "https://huggingface.co" in page.headers["Content-Security-Policy"].partition("frame-ancestors")[2]
        reply = httpx.post(f"{url}/predict", content=a_picture(tmp_path), headers={"Content-Type": "image/png"})
        assert reply.status_code == 200
        assert "prediction_id" not in reply.json()
        assert httpx.get(f"{url}/admin").status_code in {401, 403, 404}
