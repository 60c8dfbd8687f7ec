"""infra/compose.yaml cannot be started here; what can be wrong in it without a container engine is checked."""

import configparser
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from flows.ledger.attempts import worker_name
from infra import servers
from infra.ports import Ports
from infra.state import USER, State, make_state
from tests.stack.commands import until
from tests.stack.deployed_line import Line
from tests.stack.image import ENTRY, image_environment

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


# -- what a worker's container would run, without a container --------------------------------------

WORKERS = ("worker", "worker-gpu")


def environment_of(name: str, given: dict[str, str], work: Path) -> dict[str, str]:
    """The environment of a service's process, with `given` for the file of secrets and `work` for /srv/needledrop."""
    own = {key: re.sub(r"\$\{(\w+):[^}]*\}", lambda found: given.get(found[1], ""), str(value))
           for key, value in SERVICES[name]["environment"].items()}  # fmt: skip
    image = {key: value.replace("/srv/needledrop", str(work)) for key, value in image_environment().items()}
    return image | {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"} | own


@pytest.mark.parametrize("name", WORKERS)
def test_a_workers_command_has_all_that_it_needs(name: str, tmp_path: Path) -> None:
    """In an empty folder, with servers that are not there: it gets as far as asking for them."""
    given = dict.fromkeys(re.findall(r"\$\{(\w+)", (INFRA / "compose.yaml").read_text()), "secret")
    environment = environment_of(name, given, tmp_path) | {"PREFECT_API_URL": "http://127.0.0.1:9/api"}
    command = SERVICES[name]["command"].split()
    assert command[:2] == ["needledrop", "worker"]
    words = [*ENTRY, sys.executable, "-m", "flows.cli", *command[1:]]
    python = {"PYTHONPATH": str(INFRA.parent)}
    done = subprocess.run(words, cwd=tmp_path, env=environment | python, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr.count("\n")) == (1, 1), done.stderr
    assert done.stderr.startswith("error: Prefect at http://127.0.0.1:9/api does not answer"), done.stderr


def test_a_worker_without_a_project_says_what_it_lacks(tmp_path: Path) -> None:
    environment = {key: value for key, value in os.environ.items() if not key.startswith(("NEEDLEDROP_", "PREFECT_"))}
    done = subprocess.run(
        [sys.executable, "-m", "flows.cli", "worker"],
        cwd=tmp_path, env=environment | {"PYTHONPATH": str(INFRA.parent)}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 2 and done.stderr.count("\n") == 1
    assert done.stderr.endswith("or set NEEDLEDROP_SOURCE and NEEDLEDROP_CHECKOUTS\n")


@pytest.mark.stack
@pytest.mark.timeout(900)
def test_a_worker_of_the_file_runs_what_is_deployed(deployed: Line, stack: State, tmp_path: Path) -> None:
    """Its command and environment as they stand there, but for the addresses: those of the stack."""
    (work := tmp_path / "work").mkdir()
    secrets = stack.secrets
    given = {
        "MLFLOW_PASSWORD": secrets["mlflow"], "PREFECT_PASSWORD": secrets["prefect"], "S3_PASSWORD": secrets["s3"],
        "LEDGER_DATABASE_PASSWORD": secrets["ledger_database"], "NEEDLEDROP_SOURCE": str(deployed.source),
    }  # fmt: skip
    environment = environment_of("worker", given, work)
    hosts = {
        "http://mlflow:5000": stack.mlflow_url, "http://prefect:4200": stack.prefect_url, "http://minio:9000": stack.s3_endpoint,
        "@postgres:5432": f"@127.0.0.1:{stack.ports.postgres}",
    }  # fmt: skip
    for there, here in hosts.items():
        environment = {key: value.replace(there, here) for key, value in environment.items()}
    known = {key: deployed.environment[key] for key in environment if key in deployed.environment}
    differ = {key for key in known if environment[key] != known[key]}
    own = {"PATH", "NEEDLEDROP_CHECKOUTS", "AWS_ACCESS_KEY_ID", "HOME"} | set(image_environment())
    assert differ <= own, f"{differ - own}: a user of the stack has other values"
    environment |= {"AWS_ACCESS_KEY_ID": deployed.environment["AWS_ACCESS_KEY_ID"], "PYTHONPATH": str(INFRA.parent)}
    command = [sys.executable, "-m", "flows.cli", *SERVICES["worker"]["command"].split()[1:], "--name", "composed"]
    with (work / "log").open("wb") as log:
        worker = subprocess.Popen([*ENTRY, *command], cwd=work, env=environment, stdout=log, stderr=log)
    try:
        run = deployed.submit("needledrop-approve/approve", version=999, by=USER, reason="heard it")
        until(lambda: deployed.state(run)[0] in ("COMPLETED", "FAILED", "CRASHED"), within_s=300)
        # The ledger was asked, by the code of a clone.
        assert "UnknownVersion" in deployed.state(run)[2], (work / "log").read_text()
        assert worker_name("composed") in (work / "log").read_text()
        assert (work / "checkouts" / "release-1" / "dvc.yaml").is_file()
    finally:
        worker.terminate()
        worker.wait(60)
