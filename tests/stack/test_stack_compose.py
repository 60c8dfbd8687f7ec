"""infra/compose.yaml cannot be started here; what can be wrong in it without a container engine is checked."""

import configparser
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from infra import servers
from infra.ports import Ports
from infra.state import make_state

INFRA = Path(__file__).parents[2] / "infra"
COMPOSE: dict[str, Any] = yaml.safe_load((INFRA / "compose.yaml").read_text())
SERVICES: dict[str, Any] = COMPOSE["services"]


def test_it_has_every_server_and_a_worker_with_a_gpu_on_request() -> None:
    needed = {"postgres", "redis", "minio", "mlflow", "prefect", "prefect-services", "worker", "worker-gpu"}
    assert needed <= set(SERVICES)
    gpu = SERVICES["worker-gpu"]
    assert gpu["profiles"] == ["gpu"]
    assert gpu["deploy"]["resources"]["reservations"]["devices"][0]["capabilities"] == ["gpu"]
    assert "profiles" not in SERVICES["worker"]
    assert all("shm_size" in SERVICES[name] for name in ("worker", "worker-gpu"))


@pytest.mark.parametrize("name", SERVICES)
def test_images_are_pinned(name: str) -> None:
    _, _, tag = SERVICES[name]["image"].rpartition(":")
    assert re.search(r"\d", tag), f"{SERVICES[name]['image']} has no version"
    assert "latest" not in tag


@pytest.mark.parametrize("name", SERVICES)
def test_ports_are_bound_to_loopback(name: str) -> None:
    for port in SERVICES[name].get("ports", []):
        assert str(port).startswith("127.0.0.1:"), port


@pytest.mark.parametrize("name", SERVICES)
def test_every_secret_comes_from_the_environment_and_must_be_set(name: str) -> None:
    for key, value in SERVICES[name].get("environment", {}).items():
        if re.search(r"PASSWORD|SECRET|AUTH_STRING|CLIAUTH", key) or re.match(r"\w+(\+\w+)?://[^/]*@", str(value)):
            assert re.search(r"\$\{[A-Z0-9_]+:\?", str(value)), f"{name}: {key}"


def test_the_example_names_every_variable_and_no_value() -> None:
    used = set(re.findall(r"\$\{([A-Z0-9_]+)", (INFRA / "compose.yaml").read_text()))
    lines = [line for line in (INFRA / "compose.env.example").read_text().splitlines() if not line.startswith("#")]
    assert {line.partition("=")[0] for line in lines} == used
    assert all(line.endswith("=") for line in lines)


@pytest.mark.parametrize("name", SERVICES)
def test_a_service_waits_for_services_that_exist_and_can_tell_their_health(name: str) -> None:
    for other, wanted in SERVICES[name].get("depends_on", {}).items():
        assert other in SERVICES
        if wanted["condition"] == "service_healthy":
            assert "healthcheck" in SERVICES[other], f"{name} waits for {other}"


def test_every_volume_and_mounted_file_exists() -> None:
    for name, service in SERVICES.items():
        for volume in service.get("volumes", []):
            source = volume.partition(":")[0]
            assert source in COMPOSE["volumes"] or (INFRA / source).is_file(), f"{name}: {source}"


def test_one_image_serves_all_that_is_ours_and_copies_only_what_exists() -> None:
    ours = {service["image"] for service in SERVICES.values() if "build" in service}
    assert ours == {"needledrop/platform:0.1.0"}
    lines = (INFRA / "worker.Dockerfile").read_text().splitlines()
    base = next(line for line in lines if line.startswith("FROM"))
    assert re.search(r":3\.11\.\d+-", base), base
    copied = [word for line in lines if line.startswith("COPY") for word in line.split()[1:-1]]
    assert all((INFRA.parent / word).exists() for word in copied)
    assert any(line.startswith("USER ") and "root" not in line for line in lines)
    assert any("-c constraints.txt" in line for line in lines)


@pytest.mark.parametrize("script", ["compose-databases.sh", "mlflow-auth-entry.sh"])
def test_scripts_are_shell_that_parses(script: str) -> None:
    subprocess.run(["sh", "-n", INFRA / script], check=True)


def test_the_entry_point_writes_a_private_file_as_the_local_stack_does(tmp_path: Path) -> None:
    path, uri = tmp_path / "auth.ini", "postgresql://mlflow:secret@postgres:5432/mlflow_auth"
    environment = {"MLFLOW_AUTH_DATABASE_URI": uri, "MLFLOW_AUTH_CONFIG_PATH": str(path), "PATH": "/usr/bin:/bin"}
    done = subprocess.run(
        ["sh", INFRA / "mlflow-auth-entry.sh", "echo", "served"],
        env=environment, capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert done.stdout == "served\n"
    assert path.stat().st_mode & 0o777 == 0o600
    state = make_state(tmp_path / "stack", Ports())
    servers.configure(state)
    written, known = configparser.ConfigParser(), configparser.ConfigParser()
    written.read(path)
    known.read(state.folder / "mlflow-auth.ini")
    assert written["mlflow"]["database_uri"] == uri
    assert set(written["mlflow"]) == set(known["mlflow"]) - {"admin_username"}, "that comes from the environment"
