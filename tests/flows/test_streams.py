"""Output that cannot be written stops no command and tells no untruth; text that is none is refused in one line."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from flows.cli import _said
from flows.workspace.processes import Processes
from flows.workspace.workspace import Workspace

from .conftest import DIAMOND, Cli

MakeToy = Callable[[str], Workspace]

FULL = Path("/dev/full")
needs_full = pytest.mark.skipif(not FULL.exists(), reason="this system has no /dev/full")


def run(words: list[str], cwd: Path, environment: dict[str, str], script: str) -> "subprocess.CompletedProcess[str]":
    """Run `needledrop WORDS` in a shell that does with its streams what `script` says, such as `"$@" >&-`."""
    command = ["sh", "-c", script, "sh", sys.executable, "-m", "flows.cli", *words]
    return subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, check=False, timeout=120)


@needs_full
@pytest.mark.parametrize("words", [["plan", "--json"], ["plan"], ["--help"]])
def test_a_full_disk_behind_the_output_is_one_line_and_an_error(
    toy: MakeToy, clean_environment: dict[str, str], words: list[str]
) -> None:
    done = run(words, toy(DIAMOND).root, clean_environment, '"$@" > /dev/full')
    said = "error: standard output could not be written (No space left on device); the command itself is done"
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (1, "", 1), done.stderr
    assert done.stderr.startswith(said)


@needs_full
def test_a_refusal_keeps_its_code_and_its_words_where_the_output_is_lost(
    toy: MakeToy, clean_environment: dict[str, str]
) -> None:
    done = run(["blame", "x", "--json"], toy(DIAMOND).root, clean_environment, '"$@" > /dev/full')
    first, second = done.stderr.splitlines()
    assert done.returncode == 1 and first.startswith("error: ") and "told by its exit code" in second


def test_who_stops_reading_stops_no_work(toy: MakeToy, clean_environment: dict[str, str]) -> None:
    workspace = toy(DIAMOND)
    # The reader is gone before the first letter comes.
    script = '{ sleep 1; "$@"; echo "code $?" >&2; } | true'
    done = run(["plan"], workspace.root, clean_environment, script)
    assert done.stderr == "code 0\n"


@pytest.mark.parametrize("script", ['"$@" >&-', '"$@" >&- 2>&-', '"$@" <&- >&- 2>&-', '"$@" 2>/dev/full'])
def test_closed_streams_lead_nowhere(toy: MakeToy, clean_environment: dict[str, str], script: str) -> None:
    done = run(["status"], toy(DIAMOND).root, clean_environment, script)
    assert (done.returncode, done.stderr) == (0, "")


def test_no_file_takes_the_place_of_a_closed_stream(tmp_path: Path, clean_environment: dict[str, str]) -> None:
    code = (
        "from flows.streams import steady; steady(); import os, subprocess, sys\n"
        f"opened = open({str(tmp_path / 'kept')!r}, 'w')\n"
        "print('lost'); subprocess.run([sys.executable, '-c', 'print(1)'])\n"
        "opened.write('kept'); opened.close()\n"
    )
    command = ["sh", "-c", '"$@" >&-', "sh", sys.executable, "-c", code]
    subprocess.run(command, env=clean_environment, check=True)
    assert (tmp_path / "kept").read_text() == "kept"


@pytest.mark.parametrize(
    ("speaks", "shown"), [("ascii", b"caf? ?\n"), ("latin-1", b"caf\xe9 ?\n"), ("utf-8", b"caf\xc3\xa9 \xe2\x99\xab\n")]
)
def test_letters_that_a_terminal_lacks_are_replaced(
    clean_environment: dict[str, str], speaks: str, shown: bytes
) -> None:
    code = "from flows.streams import steady; steady(); print('caf\\u00e9 \\u266b')"
    code += "; import subprocess, sys; sys.stdout.flush(); subprocess.run([sys.executable, '-c', 'print(\"caf\\\\u00e9 \\\\u266b\")'])"
    environment = clean_environment | {"PYTHONIOENCODING": speaks}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, check=True)
    assert done.stdout == shown * 2


def test_what_we_read_of_a_child_is_utf_8_whatever_the_terminal_speaks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONIOENCODING", "ascii")
    said: list[str] = []
    command = [sys.executable, "-c", "print('caf\\u00e9 \\u266b \\udcff')"]
    assert Processes("run").run(command, tmp_path, said.append) == 0
    assert said == ["café ♫ ?"]


@pytest.mark.parametrize("words", [("blame", "\udcff"), ("approve", "1", "--by", "Ada", "--reason", "a\udce9"), ("recommend", "\udcff.mp4")])  # fmt: skip
def test_bytes_that_are_no_text_are_refused_in_one_line(toy: MakeToy, here: Cli, words: tuple[str, ...]) -> None:
    workspace = toy(DIAMOND)
    done = here(*words, "--json", cwd=workspace.root)
    assert done.returncode == 2 and done.stderr.count("\n") == 1
    assert "no utf-8 text" in done.stderr and "\\udc" in done.stderr
    assert json.loads(done.stdout)["code"] == 2
    assert not workspace.ledger.exists()


@needs_full
def test_a_full_disk_is_said_with_the_next_step() -> None:
    with pytest.raises(OSError) as full, FULL.open("w") as file:
        file.write("x")
        file.flush()
    assert _said(full.value) == "No space left on device; free some, `needledrop doctor` says how much there is"
    with pytest.raises(OSError) as gone:
        Path("/nowhere/file").read_text()
    assert _said(gone.value) == "No such file or directory: /nowhere/file"
