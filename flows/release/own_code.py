"""A version's own code, asked in a process of its own that is ended whole, whatever it has started."""

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import uuid
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Annotated, Final, Literal

from pydantic import BaseModel, ConfigDict, Field, FiniteFloat, ValidationError

from components.stage import write_json
from flows.environment import Environment, apart_environment
from flows.errors import Refusal
from flows.release.verified import Verified
from flows.workspace.processes import kill_group, reap

_PROGRAM: Final = Path(__file__).with_name("answer.py")
_MARK: Final = "NEEDLEDROP_ANSWER"
_LARGE: Final = "artifacts/"  # weights and catalogue
_LAST: Final = 2000  # bytes of what the process printed that may be told
_LAST_WORDS_S: Final = 1.0  # for what was printed to arrive
_NO_MEMORY: Final = ("out of memory", "MemoryError", "Unable to allocate", "allocate memory", "bad_alloc")


class Query(BaseModel):
    """What is asked: a video, a sentence, or both."""

    model_config = ConfigDict(frozen=True, use_attribute_docstrings=True)

    video: str | None
    """Path of a file with pictures."""

    text: str | None
    """What the music should be like."""

    k: int = Field(ge=1)
    """How many clips are wanted."""


class Hit(BaseModel):
    """A clip that a version recommends; what else the version says of it is kept."""

    model_config = ConfigDict(frozen=True, extra="allow", strict=True, use_attribute_docstrings=True)

    query: Annotated[int, Field(ge=0)]
    """Number of the query that it answers."""

    rank: Annotated[int, Field(ge=1)]
    """1 is the best."""

    score: FiniteFloat
    """Cosine between query and clip."""

    clip_id: str
    """Of the catalogue."""

    track_id: str
    """Of the catalogue."""

    title: str | None
    """None where it is not known."""

    artist: str | None
    """None where it is not known."""

    start_s: FiniteFloat
    """Where the clip begins in its file."""

    end_s: FiniteFloat
    """Where it ends."""

    tags: str
    """Joined by commas."""


class _Answer(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    rows: list[Hit]


class _Failure(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, populate_by_name=True)

    error: str
    during: Literal["loading", "answering", "refusing"] = Field(alias="while")


class OwnCode:
    """A process that runs the code of one version and nothing of ours.

    It is started before it is known which version will be asked, because its libraries take seconds to load.
    """

    def __init__(self, environment: Environment) -> None:
        """Start the process, with the limits of `environment`."""
        self._limit_s, self._memory_mib = environment.version_limit_s, environment.version_memory_mib
        self._mark = uuid.uuid4().hex
        self._folder = tempfile.TemporaryDirectory(prefix="needledrop-")
        # Isolated: neither the current folder nor PYTHONPATH has a say in what is imported.
        words = [sys.executable, "-I", "-B", str(_PROGRAM), str(self._memory_mib), str(os.getpid())]
        self._process = subprocess.Popen(
            words,
            cwd=self._folder.name,
            env=apart_environment({_MARK: self._mark}),
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            start_new_session=True,
        )
        self._printed, self._ended = b"", False
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def __enter__(self) -> "OwnCode":
        """Be closed at the end of the block."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End the process and all that it has started."""
        self._end()
        self._folder.cleanup()

    def ask(self, files: Verified, queries: Sequence[Query]) -> list[Hit]:
        """Return what the version recommends for each query, by number of the query and rank.

        To be called once.

        Args:
            files: of the version. Its process sees these files and no others that lie among them, such as bytecode.
            queries: as many as there are; they share the time limit.

        Raises:
            Refusal: the version refuses a query, fails, ends, takes too long, or says what is no answer; or its files
                changed meanwhile.
        """
        name, root = f"version {files.version}", Path(self._folder.name)
        view = _view(files, root / "version")
        rows = [query.model_dump() for query in queries]
        request = {"folder": str(view), "rows": rows, "answer": str(root / "answer.json")}
        write_json(root / "request.json", request)
        self._send(str(root / "request.json"))
        try:
            status: int | None = self._process.wait(self._limit_s)
        except subprocess.TimeoutExpired:
            status = None
        self._end()
        files.require_unchanged()
        if status is None:
            raise Refusal(
                f"{name} did not answer within {self._limit_s:g} s and was ended; NEEDLEDROP_VERSION_LIMIT_S allows more"
            )
        return self._judged(name, [query.k for query in queries], root / "answer.json", status)

    def _send(self, request: str) -> None:
        """Give the process its request, the only one."""
        assert self._process.stdin is not None  # noqa: S101
        with contextlib.suppress(BrokenPipeError):  # it has ended; its status says more
            self._process.stdin.write(request.encode())
            self._process.stdin.close()

    def _judged(self, name: str, ks: list[int], path: Path, status: int) -> list[Hit]:
        """Return what the answer's file holds."""
        try:
            said = path.read_bytes()
        except FileNotFoundError:
            how = f"{signal.strsignal(-status)}, signal {-status}" if status < 0 else f"exit code {status}"
            raise self._failed(f"the code of {name} ended without an answer ({how})", self._last_line()) from None
        try:
            failure = _Failure.model_validate_json(said)
        except ValidationError:
            pass
        else:
            if failure.during == "refusing":
                raise Refusal(" ".join(failure.error.split()))
            raise self._failed(f"the code of {name} failed while {failure.during}", failure.error)
        no_answer = f"{name} gave no answer that can be used"
        try:
            hits = _Answer.model_validate_json(said).rows
        except ValidationError as error:
            first = error.errors()[0]
            where = ".".join(str(part) for part in first["loc"]) or "all of it"
            raise Refusal(f"{no_answer}: {where}: {first['msg'].lower()}") from None
        ranks: dict[int, list[int]] = {}
        for hit in hits:
            ranks.setdefault(hit.query, []).append(hit.rank)
        in_order = all(found == list(range(1, len(found) + 1)) for found in ranks.values())
        if list(ranks) != list(range(len(ks))) or not in_order or any(len(ranks[at]) > k for at, k in enumerate(ks)):
            raise Refusal(f"{no_answer}: its ranks are not those of {len(ks)} queries")
        return hits

    def _failed(self, what: str, words: str) -> Refusal:
        words = " ".join(words.split())[:_LAST]
        step = ""
        if any(sign in words for sign in _NO_MEMORY):
            step = f"; it may have {self._memory_mib} MiB, NEEDLEDROP_VERSION_MEMORY_MIB allows more"
        return Refusal(f"{what}: {words}{step}")

    def _last_line(self) -> str:
        lines = self._printed.decode("utf-8", errors="replace").split("\n")
        return next((line.strip() for line in reversed(lines) if line.strip()), "it printed nothing")

    def _read(self) -> None:
        assert self._process.stderr is not None  # noqa: S101
        with self._process.stderr as pipe:
            while chunk := os.read(pipe.fileno(), 65536):
                self._printed = (self._printed + chunk)[-_LAST:]

    def _end(self) -> None:
        if self._ended:
            return
        kill_group(self._process.pid, signal.SIGKILL)
        self._process.wait()
        reap([self._mark], _MARK)  # what left the group
        if self._process.stdin and not self._process.stdin.closed:
            self._process.stdin.close()
        self._reader.join(_LAST_WORDS_S)
        self._ended = True


def _view(files: Verified, view: Path) -> Path:
    """Make a folder of a version's verified files and nothing that lies beside them, such as bytecode; return it."""
    for name in files.marks:
        path = view / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if name.startswith(_LARGE):
            path.symlink_to(files.folder.resolve() / name)
        else:  # MLflow reads no file through a link that leads out of the folder
            shutil.copyfile(files.folder / name, path)
    return view
