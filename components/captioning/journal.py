"""Answers of a language model, kept from the moment they are there: none is paid for twice."""

import json
import os
import time
from collections.abc import Generator, Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Self

from components.captioning.completion import LENGTH, STOP, Completion, LanguageModel, Request
from components.inputs import require_same_code
from components.stage import own_file

_SYNC_S = 1.0  # what a power cut may take; a killed process loses nothing


class Journal:
    r"""An append-only file of answers, one JSON object a line: ``identity``, ``digest``, ``finish``, ``text``.

    A line is handed to the operating system whole, before the answer is used, so it outlives a
    kill -9. Lines are plain ASCII, so no cut falls inside a character. A line that is not such an
    object (torn by a kill or a full disk, or spoilt on the disk) is passed over; the next one
    starts on a line of its own. Of two answers to one request the first counts.
    """

    def __init__(self, path: Path, identity: str, known: Iterable[tuple[str, str, str]] = ()) -> None:
        """Open nothing yet; the file appears with the first answer.

        Args:
            path: the file, best beside the output it leads to.
            identity: of the model; the answers of other models in the file are left alone.
            known: digest, finish and text of answers that are kept elsewhere; they are not written again.
        """
        self._path, self._identity = path, identity
        self._known = {digest: (finish, text) for digest, finish, text in known if finish in (STOP, LENGTH)}
        self._is_read = False
        self._file: int | None = None
        self._whole = True  # the file ends with a line's end
        self._synced = 0.0

    def answered(self, requests: Sequence[Request]) -> dict[str, Completion]:
        """Return the answers that the file has to these requests, by the requests' digest."""
        known = self._read()
        return {
            request.digest: Completion(request, text=known[request.digest][1], finish=known[request.digest][0])
            for request in requests
            if request.digest in known
        }

    def add(self, completion: Completion) -> None:
        """Write an answer; an "error" is none, and is left out.

        Raises:
            OSError: the disk is full, or the file cannot be written; earlier answers stay readable.
        """
        digest, finish, text = completion.request.digest, completion.finish, completion.text
        known = self._read()
        if finish not in (STOP, LENGTH) or digest in known:
            return
        line = json.dumps({"identity": self._identity, "digest": digest, "finish": finish, "text": text})
        self._append(f"{line}\n".encode())
        known[digest] = (finish, text)

    def close(self) -> None:
        """Put what was written onto the disk, and let go of the file; a later ``add`` opens it again."""
        if self._file is not None:
            file, self._file = self._file, None
            try:
                os.fsync(file)
            finally:
                os.close(file)

    def __enter__(self) -> Self:
        """Return the journal itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close the file."""
        self.close()

    def _read(self) -> dict[str, tuple[str, str]]:
        """Return this model's answers: digest -> finish, text. The file is read once."""
        if not self._is_read and self._path.exists():
            with self._path.open("rb") as lines:
                for line in lines:
                    if (entry := _entry(line, self._identity)) is not None:
                        self._known.setdefault(entry[0], entry[1:])
        self._is_read = True
        return self._known

    def _append(self, line: bytes) -> None:
        if self._file is None:
            require_same_code()  # the identity is that of the code on disk
            self._path.parent.mkdir(parents=True, exist_ok=True)
            own_file(self._path)
            self._file = os.open(self._path, os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o644)
            size = os.fstat(self._file).st_size
            self._whole = size == 0 or os.pread(self._file, 1, size - 1) == b"\n"
        rest = line if self._whole else b"\n" + line
        self._whole = False
        try:
            while rest:
                rest = rest[os.write(self._file, rest) :]
            self._whole = True
            if time.monotonic() - self._synced >= _SYNC_S:
                os.fsync(self._file)
                self._synced = time.monotonic()
        except OSError as error:
            error.filename = error.filename or str(self._path)  # os.write knows a number only
            raise


def complete_once(model: LanguageModel, requests: Sequence[Request], journal: Journal) -> Iterator[Completion]:
    """Yield one completion per request: those in the journal first, in order, then the model's as they come.

    Each new answer is in the journal before it is yielded. Requests of one digest are asked once
    and all answered.

    Raises:
        ValueError: nothing can be completed at all; what was answered until then is kept.
        OSError: the journal cannot be written.
    """
    answers = journal.answered(requests)
    alike: dict[str, list[Request]] = {}
    for request in requests:
        if request.digest in answers:
            yield replace(answers[request.digest], request=request)
        else:
            alike.setdefault(request.digest, []).append(request)
    if not alike:
        return
    made = model.complete([group[0] for group in alike.values()])
    try:
        for completion in made:
            journal.add(completion)
            for request in alike[completion.request.digest]:
                yield replace(completion, request=request)
    finally:
        if isinstance(made, Generator):
            made.close()  # at once, also while an exception still holds on to this frame


def _entry(line: bytes, identity: str) -> tuple[str, str, str] | None:
    """Return a line's digest, finish and text, if it is an answer of the model."""
    try:
        entry = json.loads(line)
    except (ValueError, RecursionError):
        return None
    if not isinstance(entry, dict) or entry.get("identity") != identity:
        return None
    digest, finish, text = entry.get("digest"), entry.get("finish"), entry.get("text")
    if isinstance(digest, str) and isinstance(text, str) and finish in (STOP, LENGTH):
        return digest, finish, text
    return None
