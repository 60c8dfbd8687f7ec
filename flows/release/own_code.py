"""A version's own code, asked in a process of its own that is ended whole, whatever it has started."""

import contextlib
import os
import select
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
import uuid
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Annotated, Final, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, FiniteFloat, ValidationError

from components.stage import write_json
from flows.environment import Environment, apart_environment
from flows.errors import Refusal
from flows.release.verified import Verified
from flows.workspace.processes import kill_group, reap

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

_PROGRAM: Final = Path(__file__).with_name("answer.py")
_MARK: Final = "NEEDLEDROP_ANSWER"
_LARGE: Final = "artifacts/"  # weights and catalogue
_LAST: Final = 2000  # bytes of what the process printed that may be told
_LOOK_S: Final = 0.1  # between two looks whether it still runs
_LAST_WORDS_S: Final = 1.0  # for what was printed to arrive
_NO_MEMORY: Final = ("out of memory", "MemoryError", "Unable to allocate", "allocate memory", "bad_alloc")


_M = TypeVar("_M", bound=BaseModel)


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


class _Made(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    failed: dict[str, str]


class _Timed(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    ms: FiniteFloat


class OwnCode:
    """A process that runs the code of one version and nothing of ours.

    It is started before it is known which version will be asked, because its libraries take seconds to load.
    """

    def __init__(self, environment: Environment) -> None:
        """Start the process, with the limits of `environment`."""
        self._limit_s, self._memory_mib = environment.version_limit_s, environment.version_memory_mib
        self._mark = uuid.uuid4().hex
        self._folder = tempfile.TemporaryDirectory(prefix="needledrop-")
        self._ready, ready = os.pipe()
        # Isolated: neither the current folder nor PYTHONPATH has a say in what is imported.
        words = [sys.executable, "-I", "-B", str(_PROGRAM), str(self._memory_mib), str(os.getpid()), str(ready)]
        self._process = subprocess.Popen(
            words,
            cwd=self._folder.name,
            env=apart_environment({_MARK: self._mark}),
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            start_new_session=True,
            pass_fds=[ready],
        )
        os.close(ready)
        self._files: Verified | None = None
        self._requests, self._printed, self._ended = 0, b"", False
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
        os.close(self._ready)
        self._folder.cleanup()

    def ask(self, files: Verified, queries: Sequence[Query]) -> list[Hit]:
        """Return what the version recommends for each query, by number of the query and rank.

        To be called once, of a process that has loaded nothing; it is ended.

        Args:
            files: of the version. Its process sees these files and no others that lie among them, such as bytecode.
            queries: as many as there are; they share the time limit.

        Raises:
            Refusal: the version refuses a query, fails, ends, takes too long, or says what is no answer; or its files
                changed meanwhile.
        """
        self.load(files)
        said = self._request("recommend", rows=[query.model_dump() for query in queries])
        self._end()
        files.require_unchanged()
        return self._hits(said, [query.k for query in queries])

    def load(self, files: Verified, threads: int = 1) -> None:
        """Load a version; the other methods but `ask` are about this one.

        Args:
            files: of the version.
            threads: that its arithmetic may use.

        Raises:
            Refusal: as `ask`.
        """
        self._files = files
        view = _view(files, Path(self._folder.name) / "version")
        self._request("load", folder=str(view), threads=threads)
        files.require_unchanged()

    def give(
        self, modality: str, clips: Sequence[str], arrays: "tuple[NDArray[np.float32], NDArray[np.bool_]]"
    ) -> None:
        """Give the features (N, S, D) of clips, with their mask (N, S), that the version's extractor would make.

        Raises:
            Refusal: as `ask`; also where the version has no way to be judged.
        """
        import numpy as np

        path = Path(self._folder.name) / "given.npz"
        np.savez(path, features=arrays[0], mask=arrays[1])
        self._request("give", modality=modality, clips=list(clips), arrays=str(path))
        path.unlink()

    def make(self, modality: str, sources: Sequence[Mapping[str, object]]) -> dict[str, str]:
        """Let the version's extractor make the features of clips; return why, by clip id, where it could not.

        Args:
            modality: video, music or text.
            sources: `clip_id`, with `uri`, `start_s` and `end_s`, or with `text`.

        Raises:
            Refusal: as `give`.
        """
        failed = self._parsed(_Made, self._request("make", modality=modality, sources=list(sources))).failed
        if unknown := failed.keys() - {one["clip_id"] for one in sources}:
            raise Refusal(f"{self._no_answer}: it speaks of the clip {min(unknown)!r}, which it was not asked about")
        return failed

    def embed(self, shown: Sequence[str], clips: Sequence[str]) -> "NDArray[np.float32]":
        """Return (N, E) vectors of clips that show these modalities: music alone, or those of a query.

        Raises:
            Refusal: as `give`; also where these are no vectors of numbers.
        """
        import numpy as np

        path = Path(self._folder.name) / "vectors.npy"
        self._request("embed", shown=list(shown), clips=list(clips), vectors=str(path))
        try:
            vectors = np.load(path, allow_pickle=False)
        except (OSError, ValueError) as error:
            raise Refusal(f"{self._no_answer}: {error}") from None
        path.unlink()
        if vectors.ndim != 2 or len(vectors) != len(clips) or vectors.dtype.kind != "f":
            raise Refusal(f"{self._no_answer}: vectors of shape {vectors.shape} for {len(clips)} clips")
        found: NDArray[np.float32] = vectors.astype(np.float32)
        return found

    def time(self, shown: Sequence[str], clip: str, k: int) -> float:
        """Return milliseconds from the features of a query to the k best clips of the version's catalogue.

        Raises:
            Refusal: as `give`.
        """
        return self._parsed(_Timed, self._request("time", shown=list(shown), clip=clip, k=k)).ms

    @property
    def _name(self) -> str:
        assert self._files is not None  # noqa: S101
        return f"version {self._files.version}"

    @property
    def _no_answer(self) -> str:
        return f"{self._name} gave no answer that can be used"

    def _request(self, do: str, **takes: object) -> bytes:
        """Return the answer's file, which is no failure.

        Raises:
            Refusal: the version failed, ended, or took too long.
        """
        root = Path(self._folder.name)
        self._requests += 1
        request, answer = root / f"request-{self._requests}.json", root / f"answer-{self._requests}.json"
        write_json(request, {"do": do, "answer": str(answer), **takes})
        assert self._process.stdin is not None  # noqa: S101
        with contextlib.suppress(BrokenPipeError):  # it has ended; its status says more
            self._process.stdin.write(f"{request}\n".encode())
            self._process.stdin.flush()
        status = self._wait()
        if status is None:
            self._end()
            raise Refusal(
                f"{self._name} did not answer within {self._limit_s:g} s and was ended; NEEDLEDROP_VERSION_LIMIT_S allows more"
            )
        try:
            said = answer.read_bytes()
        except FileNotFoundError:
            self._end()
            how = f"{signal.strsignal(-status)}, signal {-status}" if status < 0 else f"exit code {status}"
            raise self._failed(f"the code of {self._name} ended without an answer ({how})", self._last_line()) from None
        for path in (request, answer):
            path.unlink(missing_ok=True)
        try:
            failure = _Failure.model_validate_json(said)
        except ValidationError:
            return said
        self._end()
        if failure.during == "refusing":
            raise Refusal(" ".join(failure.error.split()))
        raise self._failed(f"the code of {self._name} failed while {failure.during}", failure.error)

    def _wait(self) -> int | None:
        """Wait for an answer or an end; return the exit status, 0 while it runs on, or None where it took too long."""
        last = time.monotonic() + self._limit_s
        waiting = select.poll()
        waiting.register(self._ready, select.POLLIN)
        # What it has started may hold the pipe open, so that its end does not show there.
        while (left := last - time.monotonic()) > 0:
            if waiting.poll(1000 * min(left, _LOOK_S)):
                if os.read(self._ready, 1):
                    return 0
                waiting.unregister(self._ready)  # at its end
            status = self._process.poll()
            if status is not None:
                return status
        return None

    def _parsed(self, form: type[_M], said: bytes) -> _M:
        try:
            return form.model_validate_json(said)
        except ValidationError as error:
            first = error.errors()[0]
            where = ".".join(str(part) for part in first["loc"]) or "all of it"
            raise Refusal(f"{self._no_answer}: {where}: {first['msg'].lower()}") from None

    def _hits(self, said: bytes, ks: list[int]) -> list[Hit]:
        """Return the ranked clips of an answer."""
        hits = self._parsed(_Answer, said).rows
        ranks: dict[int, list[int]] = {}
        for hit in hits:
            ranks.setdefault(hit.query, []).append(hit.rank)
        in_order = all(found == list(range(1, len(found) + 1)) for found in ranks.values())
        if list(ranks) != list(range(len(ks))) or not in_order or any(len(ranks[at]) > k for at, k in enumerate(ks)):
            raise Refusal(f"{self._no_answer}: its ranks are not those of {len(ks)} queries")
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
