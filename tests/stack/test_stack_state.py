"""What the stack keeps and refuses before any server is started."""

import json
import os
import signal
import socket
import stat
import subprocess
import time
from pathlib import Path

import pytest

from flows.errors import BUSY, Refusal
from infra import postgres
from infra.part import Part
from infra.ports import Ports, free_ports, require_free
from infra.stack import down, up
from infra.state import alone, make_state, read_state


def test_secrets_are_random_private_and_kept(tmp_path: Path) -> None:
    one, other = make_state(tmp_path / "one", Ports()), make_state(tmp_path / "other", Ports())
    assert not set(one.secrets.values()) & set(other.secrets.values())
    assert len(set(one.secrets.values())) == len(one.secrets)
    again = read_state(tmp_path / "one")
    assert again is not None
    assert again.secrets == one.secrets
    one.write_env()
    assert stat.S_IMODE(one.env.stat().st_mode) == 0o600
    assert stat.S_IMODE((one.folder / "secrets.json").stat().st_mode) == 0o600


def test_the_exports_are_read_by_a_shell_and_hold_no_secret_of_the_servers(tmp_path: Path) -> None:

    state = make_state(tmp_path, Ports())
    state.write_env()
    done = subprocess.run(["sh", "-c", ". ./env && env"], cwd=tmp_path, capture_output=True, text=True, check=True)
    seen = dict(line.split("=", 1) for line in done.stdout.splitlines() if "=" in line)
    assert {name: seen.get(name) for name in state.exports()} == state.exports()
    for name in ("postgres", "mlflow_database", "prefect_database", "mlflow_forms", "s3_paths"):
        assert state.secrets[name] not in done.stdout


def test_a_taken_port_is_named_with_its_holder_and_the_option(tmp_path: Path) -> None:
    ports = free_ports()
    with socket.socket() as other:
        other.bind(("127.0.0.1", ports.mlflow))
        other.listen()
        with pytest.raises(Refusal, match=rf"{ports.mlflow} \(mlflow\).*process {os.getpid()}.*--mlflow-port"):
            up(tmp_path / "stack", ports)
        require_free(ports, {"postgres", "s3"})
    require_free(ports, {"mlflow"})
    assert read_state(tmp_path / "stack") is None, "nothing was made"


def test_two_commands_take_turns(tmp_path: Path) -> None:
    with alone(tmp_path), pytest.raises(Refusal) as busy:
        up(tmp_path)
    assert busy.value.code == BUSY


def test_down_where_nothing_was_started_does_nothing(tmp_path: Path) -> None:
    assert down(tmp_path / "none") == []
    assert not (tmp_path / "none").exists()


def test_a_part_that_ends_is_told_with_its_last_words(tmp_path: Path) -> None:
    state = make_state(tmp_path, Ports())
    part = Part("broken", state.folder, ["sh", "-c", "echo no such file >&2; exit 3"], lambda: "no answer")
    part.start()
    with pytest.raises(Refusal, match=r"broken ended by itself \(no such file\); see .*broken.log"):
        part.wait_healthy(float("inf"))


def test_stopping_a_part_ends_all_it_started_also_when_it_is_suspended(tmp_path: Path) -> None:

    state = make_state(tmp_path, Ports())
    # The second sleep leaves the part's process group, as a worker's flow runs do.
    part = Part("family", state.folder, ["sh", "-c", "sleep 60 & setsid sleep 60 & wait"], lambda: None)
    part.start()
    deadline = time.monotonic() + 10
    while len(part.members()) < 3 and time.monotonic() < deadline:
        time.sleep(0.02)
    family = part.members()
    assert len(family) == 3
    first = part.process()
    assert first is not None
    os.kill(first.pid, signal.SIGSTOP)
    part.stop()
    assert part.members() == []
    assert not [one for one in family if one.is_running() and one.status() != "zombie"]


def test_another_program_with_the_same_process_id_is_not_taken_for_the_part(tmp_path: Path) -> None:

    state = make_state(tmp_path, Ports())
    part = Part("gone", state.folder, ["true"], lambda: None)
    (state.folder / "run" / "gone.json").write_text(json.dumps({"pid": os.getpid(), "created": 1.0}))
    assert part.process() is None
    assert part.members() == []


def test_data_of_another_postgresql_are_left_alone_and_named(tmp_path: Path) -> None:
    state = make_state(tmp_path, Ports())
    (tmp_path / "postgres").mkdir()
    (tmp_path / "postgres" / "PG_VERSION").write_text("15\n")
    with pytest.raises(Refusal, match="was made by PostgreSQL 15, this stack runs 18"):
        postgres.initialise(state)
    assert [path.name for path in (tmp_path / "postgres").iterdir()] == ["PG_VERSION"]
