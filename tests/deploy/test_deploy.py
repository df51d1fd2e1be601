"""deploy/: each file checked by what runs here. Docker, compose, systemd and Kubernetes themselves were not run."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from drivetrain.settings import SETTINGS

from . import dockerfile

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "deploy"
KNOWN = {f"DRIVETRAIN_{row.name.upper()}" for row in SETTINGS}
DEFAULTS = {row.name: row.default for row in SETTINGS}


def test_every_file_is_looked_at() -> None:
    found = sorted(path.relative_to(DEPLOY).as_posix() for path in DEPLOY.rglob("*") if path.is_file())
    assert found == [
        "Dockerfile",
        "Dockerfile.dockerignore",
        "compose.yaml",
        "drivetrain.service",
        "kubernetes/drivetrain.yaml",
    ]


def test_every_setting_in_them_is_one() -> None:
    named = {
        name
        for path in DEPLOY.rglob("*")
        if path.is_file()
        for name in re.findall(r"DRIVETRAIN_[A-Z_]+", path.read_text("utf-8"))
    }
    assert "DRIVETRAIN_DB" in named
    assert named <= KNOWN


def test_no_secret_is_in_them() -> None:
    given = r"(?i)(?:password|secret|token)\S*\s*[:=][ \t]*([^\s#]+)"
    for path in DEPLOY.rglob("*"):
        found = re.findall(given, path.read_text("utf-8")) if path.is_file() else []
        assert [text for text in found if not text.startswith(("${", "...", "?", "false"))] == [], path.name


# the image


def test_the_dockerfile_is_clean() -> None:
    assert dockerfile.problems(DEPLOY / "Dockerfile", context=ROOT) == []


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("USER 1000:1000\n", "", "runs as 0"),
        ("USER 1000:1000\n", "USER root\n", "runs as root"),
        ("USER 1000:1000\n", "USER 1000:1000\nRUN touch /x\n", "changes something"),
        ("HEALTHCHECK", "LABEL x=", "no HEALTHCHECK"),
        ("FROM python:3.11-slim\n", "FROM python\n", "no version: python"),
        ("PYTHONUNBUFFERED=1", "DRIVETRAIN_PASSWORD=1", "a secret: DRIVETRAIN_PASSWORD"),
        ("COPY src ./src", "COPY source ./src", "not there: source"),
        ("COPY src ./src", "COPY tests ./src", "kept out: tests"),
        ("EXPOSE 8000", "EXPOSE 80", "another port"),
        ("RUN useradd", "RUN sudo useradd", "DL3004"),  # hadolint's own
    ],
)
def test_what_is_wrong_in_a_dockerfile_is_found(old: str, new: str, said: str, tmp_path: Path) -> None:
    text = (DEPLOY / "Dockerfile").read_text("utf-8")
    assert old in text
    (tmp_path / "Dockerfile").write_text(text.replace(old, new))
    shutil.copy(DEPLOY / "Dockerfile.dockerignore", tmp_path)
    assert [line for line in dockerfile.problems(tmp_path / "Dockerfile", context=ROOT) if said in line]


@pytest.mark.slow
def test_the_steps_of_the_dockerfile_make_a_server(tmp_path: Path, trained: Any) -> None:
    file = dockerfile.read(DEPLOY / "Dockerfile", context=ROOT)
    (tmp_path / "build").mkdir()
    file.copy_sent(tmp_path / "build")
    file.install(tmp_path / "build", venv=tmp_path / "venv")
    env = {**file.env, "PATH": f"{tmp_path / 'venv' / 'bin'}:{os.environ['PATH']}", "DRIVETRAIN_PORT": "0"}
    env |= {"DRIVETRAIN_CACHE_DIR": str(tmp_path / "tmp"), "DRIVETRAIN_DB": f"sqlite:///{tmp_path / 'store.db'}"}
    imported = subprocess.run(["python", "-c", "import psycopg"], env=env, check=False)
    assert imported.returncode == 0
    subprocess.run(["drivetrain", "key", "create", "first"], env=env, check=True, stdout=subprocess.DEVNULL)
    command = [*file.command[:-1], str(trained.bundle)]
    with (tmp_path / "log").open("wb") as log:
        process = subprocess.Popen(command, env=env, stderr=log, cwd=tmp_path)
    try:
        deadline = time.monotonic() + 120
        while " answers at " not in (said := (tmp_path / "log").read_text("utf-8")):
            assert process.poll() is None, said
            assert time.monotonic() < deadline
            time.sleep(0.1)
        url = said.partition(" answers at ")[2].split()[0]
        assert httpx.get(f"{url}/health/ready").status_code == 200
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=60) == 0
    finally:
        process.kill()
        process.wait()


# compose


@pytest.fixture(scope="module")
def compose() -> dict[str, Any]:
    loaded: dict[str, Any] = yaml.safe_load((DEPLOY / "compose.yaml").read_text("utf-8"))
    return loaded


def test_compose_builds_our_image_and_waits_for_its_database(compose: dict[str, Any]) -> None:
    server, database = compose["services"]["server"], compose["services"]["database"]
    context = (DEPLOY / server["build"]["context"]).resolve()
    assert context == ROOT
    assert (context / server["build"]["dockerfile"]).is_file()
    assert server["depends_on"]["database"]["condition"] == "service_healthy"
    assert "pg_isready" in " ".join(database["healthcheck"]["test"])
    assert re.fullmatch(r"postgres:\d+\S*", database["image"])
    user, name = database["environment"]["POSTGRES_USER"], database["environment"]["POSTGRES_DB"]
    url = server["environment"]["DRIVETRAIN_DB"]
    assert re.fullmatch(rf"postgresql://{user}:\$\{{POSTGRES_PASSWORD:\?.*\}}@database/{name}", url)
    assert database["environment"]["POSTGRES_PASSWORD"].startswith("${POSTGRES_PASSWORD:?")
    assert set(compose["volumes"]) == {"database"}


def test_compose_gives_the_server_no_more_than_it_needs(compose: dict[str, Any]) -> None:
    server = compose["services"]["server"]
    assert server["read_only"] is True
    assert server["tmpfs"] == ["/tmp"]
    assert server["cap_drop"] == ["ALL"]
    assert "no-new-privileges:true" in server["security_opt"]
    assert all(mount.endswith(":ro") for mount in server["volumes"])
    assert all(port.startswith("127.0.0.1:") for port in server["ports"])
    wait = int(server["environment"]["DRIVETRAIN_SHUTDOWN_WAIT_S"])
    assert int(server["stop_grace_period"].removesuffix("s")) >= wait + int(DEFAULTS["shutdown_grace_s"]) + 20


def test_compose_is_what_compose_understands(compose: dict[str, Any]) -> None:
    known = {
        "build", "image", "environment", "depends_on", "volumes", "ports", "read_only", "tmpfs", "cap_drop",
        "security_opt", "pids_limit", "mem_limit", "stop_grace_period", "restart", "healthcheck",
    }  # fmt: skip
    assert set(compose) == {"name", "services", "volumes"}
    for service in compose["services"].values():
        assert set(service) <= known


# systemd


@pytest.fixture(scope="module")
def unit() -> dict[str, list[tuple[str, str]]]:
    """Section -> its lines; a name may stand several times."""
    sections: dict[str, list[tuple[str, str]]] = {}
    for line in (DEPLOY / "drivetrain.service").read_text("utf-8").splitlines():
        if line.startswith("["):
            lines = sections.setdefault(line.strip("[]"), [])
        elif line and not line.startswith("#"):
            name, _, text = line.partition("=")
            lines.append((name, text))
    return sections


def test_the_unit_serves_drains_and_is_hardened(unit: dict[str, list[tuple[str, str]]]) -> None:
    service = dict(unit["Service"])
    assert service["ExecStart"].split()[1] == "serve"
    assert (service["Restart"], service["RestartPreventExitStatus"]) == ("on-failure", "2")
    assert (service["KillSignal"], service["KillMode"]) == ("SIGTERM", "mixed")
    assert int(service["TimeoutStopSec"]) >= int(DEFAULTS["shutdown_grace_s"]) + 20
    for name in ("NoNewPrivileges", "PrivateTmp", "PrivateDevices", "ProtectHome", "DynamicUser", "RestrictNamespaces"):
        assert service[name] == "yes", name
    assert service["ProtectSystem"] == "strict"
    assert service["CapabilityBoundingSet"] == ""
    env = dict(text.split("=", 1) for name, text in unit["Service"] if name == "Environment")
    assert env["DRIVETRAIN_HOST"] == "127.0.0.1"
    # what is writable is the unit's own
    assert env["DRIVETRAIN_DB"].removeprefix("sqlite:///").startswith(f"/var/lib/{service['StateDirectory']}/")
    assert env["DRIVETRAIN_CACHE_DIR"] == f"/var/cache/{service['CacheDirectory']}"


def test_systemd_finds_nothing_wrong_with_the_unit(tmp_path: Path) -> None:
    tool = shutil.which("systemd-analyze")
    if tool is None:
        pytest.skip("systemd-analyze is not here")
    text = (DEPLOY / "drivetrain.service").read_text("utf-8")
    copy = tmp_path / "drivetrain.service"
    copy.write_text(text.replace("/opt/drivetrain/bin/drivetrain serve", f"{sys.executable} serve"))
    done = subprocess.run([tool, "verify", copy], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    looked = subprocess.run(
        [tool, "security", "--offline=true", "--threshold=20", copy], capture_output=True, text=True, check=False
    )
    assert looked.returncode == 0, looked.stdout[-2000:]  # exposure at most 2.0 of 10


# Kubernetes


@pytest.fixture(scope="module")
def manifests() -> dict[str, dict[str, Any]]:
    text = (DEPLOY / "kubernetes" / "drivetrain.yaml").read_text("utf-8")
    return {one["kind"]: one for one in yaml.safe_load_all(text)}


def test_the_manifests_belong_together(manifests: dict[str, dict[str, Any]]) -> None:
    assert {kind: one["apiVersion"] for kind, one in manifests.items()} == {
        "Deployment": "apps/v1",
        "Service": "v1",
        "PodDisruptionBudget": "policy/v1",
        "NetworkPolicy": "networking.k8s.io/v1",
    }
    labels = manifests["Deployment"]["spec"]["template"]["metadata"]["labels"]
    assert manifests["Deployment"]["spec"]["selector"]["matchLabels"].items() <= labels.items()
    assert manifests["Service"]["spec"]["selector"].items() <= labels.items()
    assert manifests["PodDisruptionBudget"]["spec"]["selector"]["matchLabels"].items() <= labels.items()
    assert manifests["NetworkPolicy"]["spec"]["podSelector"]["matchLabels"].items() <= labels.items()
    assert manifests["Deployment"]["spec"]["replicas"] > manifests["PodDisruptionBudget"]["spec"]["minAvailable"]


def test_the_pod_is_probed_limited_and_locked_down(manifests: dict[str, dict[str, Any]]) -> None:
    pod = manifests["Deployment"]["spec"]["template"]["spec"]
    [server] = pod["containers"]
    ports = {port["name"]: port["containerPort"] for port in server["ports"]}
    assert ports == {"http": int(DEFAULTS["port"])}
    paths = {name: server[f"{name}Probe"]["httpGet"] for name in ("startup", "readiness", "liveness")}
    assert paths == {
        "startup": {"path": "/health/ready", "port": "http"},
        "readiness": {"path": "/health/ready", "port": "http"},
        "liveness": {"path": "/health/live", "port": "http"},  # a model that loads must not be killed for it
    }
    assert {"cpu", "memory"} == set(server["resources"]["limits"]) == set(server["resources"]["requests"])
    assert server["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert pod["securityContext"]["runAsUser"] == 1000
    assert pod["automountServiceAccountToken"] is False
    assert {mount["mountPath"] for mount in server["volumeMounts"]} == {"/tmp"}
    assert {mount["name"] for mount in server["volumeMounts"]} == {volume["name"] for volume in pod["volumes"]}


def test_the_pod_has_time_to_drain(manifests: dict[str, dict[str, Any]]) -> None:
    pod = manifests["Deployment"]["spec"]["template"]["spec"]
    env = {one["name"]: one for one in pod["containers"][0]["env"]}
    wait = int(env["DRIVETRAIN_SHUTDOWN_WAIT_S"]["value"])
    assert pod["terminationGracePeriodSeconds"] >= wait + int(DEFAULTS["shutdown_grace_s"]) + 15
    readiness = pod["containers"][0]["readinessProbe"]
    assert wait >= readiness["periodSeconds"] * readiness["failureThreshold"]
    assert "secretKeyRef" in env["DRIVETRAIN_DB"]["valueFrom"]
    assert manifests["Deployment"]["spec"]["strategy"]["rollingUpdate"]["maxUnavailable"] == 0
