"""Model versions as the black boxes they are: asked about the test clips through their own code and extractors.

A version's code runs in a process of its own (`flows.release.own_code`). Features are made by the version's extractors from
the test media; where the workspace's store holds what that very extractor made, they are given from there. A version whose
code is today's, byte for byte, and whose extractors are the workspace's is asked in this process: there is nothing to keep
apart, and two processes would cost seconds to start.
"""

import filecmp
import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final, Protocol

import numpy as np
from numpy.typing import NDArray

import components
import flows
from components.encoder.embed import MODES, Gathers
from components.encoder.model import Arrays
from components.encoder.serialise import load_model
from components.evaluation.pool import Pool
from components.indexing.search import Catalogue
from components.modalities import MUSIC, TEXT, Modality
from flows.errors import Refusal
from flows.release.answer import BATCH, Asked, Parts
from flows.release.encoders import check_encoders
from flows.release.needs import check_needs
from flows.release.own_code import OwnCode
from flows.release.table import Release
from flows.release.verified import Verified

LIST: Final = 10  # answers to a query that is timed
_READ: Final = 16  # clips whose media are read between two signs of life
_CODE, _MODEL = "code/components", "pyfunc_model.py"

log = logging.getLogger(__name__)


class _Answers(Protocol):
    """What is asked of a version, here or in a process of its own; see `OwnCode`."""

    def give(self, modality: str, clips: Sequence[str], arrays: Arrays) -> None: ...

    def make(self, modality: str, sources: Sequence[Mapping[str, Any]]) -> dict[str, str]: ...

    def embed(self, shown: Sequence[str], clips: Sequence[str]) -> NDArray[np.float32]: ...

    def time(self, shown: Sequence[str], clip: str, k: int) -> float: ...


class Judged:
    """A version as a scorer of test clips (`components.evaluation.scorer.Scorer`).

    Attributes:
        release: as the ledger has it.
        note: what its environment has in another form than it asks for, or nothing.
        unread: why, by clip id, where its extractors could not read a test clip; such a clip counts as not found.
    """

    def __init__(
        self, release: Release, pool: Pool, texts: Mapping[str, str], root: Path, answers: _Answers, note: str
    ) -> None:
        """Ask `answers`.

        Args:
            release: the version's.
            pool: the test clips; of its stores those are used that the version's own extractors made.
            texts: the words of each query, by clip id.
            root: what the paths of media are relative to.
            answers: the version, loaded.
            note: see `note`.
        """
        self.release, self.note, self.unread = release, note, dict[str, str]()
        self._pool, self._texts, self._root, self._answers = pool, texts, root, answers
        self._rows = {row["clip_id"]: row for row in pool.rows}
        self._ready: dict[Modality, set[str]] = {}
        self._failed: dict[Modality, set[str]] = {}
        self._gallery: tuple[list[str], NDArray[np.float32]] | None = None

    @property
    def name(self) -> str:
        """As people call it."""
        return f"version {self.release.version}"

    @property
    def facts(self) -> dict[str, str]:
        """What names it, for the provenance."""
        names = ("run_id", "commit", "digest", "model", "index", "manifest", "params", "code")
        return {"version": str(self.release.version)} | {name: str(getattr(self.release, name)) for name in names}

    def scores(self, sources: Mapping[Modality, Gathers], ids: Sequence[str], mode: str) -> NDArray[np.float32]:
        """Return the cosines (N, N); below all others for music that the version cannot read, level for such a query.

        Args:
            sources: not used: which features it is shown is the version's own affair.
            ids: the N clips that are queries and gallery.
            mode: what the query shows.

        Raises:
            Refusal: the version fails, see `OwnCode`; or it can read no clip.
        """
        clips, shown = list(ids), MODES[mode]
        if self._gallery is None or self._gallery[0] != clips:
            self._gallery = (clips, self._vectors((MUSIC,), clips))
        queries, music = self._vectors(shown, clips), self._gallery[1]
        if queries.shape[1] != music.shape[1]:
            raise Refusal(f"{self.name}: its queries have {queries.shape[1]} dimensions, its music {music.shape[1]}")
        scores: NDArray[np.float32] = queries @ music.T
        scores[:, self._lacking((MUSIC,), clips)] = -2.0  # a cosine is -1 at least
        scores[self._lacking(shown, clips)] = 0.0
        return scores

    def time(self, shown: Sequence[Modality], clip: str) -> float:
        """Return milliseconds that it takes from the features of a query to its best ten, or NaN where it reads none."""
        for modality in shown:
            self._make_ready(modality, [clip])
        if self._lacking(shown, [clip])[0]:
            return float("nan")
        return self._answers.time(shown, clip, LIST)

    def _vectors(self, shown: Sequence[Modality], clips: list[str]) -> NDArray[np.float32]:
        for modality in shown:
            self._make_ready(modality, clips)
        lacking = self._lacking(shown, clips)
        if lacking.all():
            why = next(iter(self.unread.values()), "no reason given")
            raise Refusal(f"{self.name}: its own extractors can read none of the {len(clips)} test clips: {why}")
        found = self._answers.embed(shown, [clip for clip, lacks in zip(clips, lacking, strict=True) if not lacks])
        vectors = np.zeros((len(clips), found.shape[1]), np.float32)
        vectors[~lacking] = found
        return vectors

    def _lacking(self, shown: Sequence[Modality], clips: Sequence[str]) -> NDArray[np.bool_]:
        return np.array([any(clip in self._failed.get(modality, ()) for modality in shown) for clip in clips])

    def _make_ready(self, modality: Modality, clips: Sequence[str]) -> None:
        """Have the features of clips made, or give those that the version's extractor has made already."""
        ready = self._ready.setdefault(modality, set())
        wanted = [clip for clip in clips if clip not in ready]
        if not wanted:
            return
        store = self._pool.stores[modality]
        if store.digest == self.release.specs[modality]:
            for start in range(0, len(wanted), BATCH):
                some = wanted[start : start + BATCH]
                self._answers.give(modality, some, store.gather(some))
        else:
            for start in range(0, len(wanted), _READ):
                some = wanted[start : start + _READ]
                failed = self._answers.make(modality, [self._source(modality, clip) for clip in some])
                self._failed.setdefault(modality, set()).update(failed)
                self.unread |= failed
            if len(wanted) > 1:
                log.info("%s: its own extractor has read %s of %d test clips", self.name, modality, len(wanted))
        ready.update(wanted)

    def _source(self, modality: Modality, clip: str) -> dict[str, Any]:
        if modality == TEXT:
            return {"clip_id": clip, "text": self._texts[clip]}
        row = self._rows[clip]
        return {"clip_id": clip, "uri": str(self._root / row["uri"])} | {
            name: row[name] for name in ("start_s", "end_s")
        }


class _Stored(Parts):
    """A version in this process, whose features the stores of the workspace hold."""

    def features(self, modality: str, sources: Sequence[Mapping[str, Any]]) -> list[NDArray[np.float32] | Exception]:
        raise NotImplementedError("the stores of the workspace hold them")


class _Here(Asked):
    """One in this process."""

    def time(self, shown: Sequence[str], clip: str, k: int) -> float:
        import torch

        torch.set_num_threads(1)  # as in a process of its own
        return super().time(shown, clip, k)


def needs_process(files: Verified, release: Release, pool: Pool) -> bool:
    """Return whether a version must be asked in a process of its own: its code, or an extractor, is not the workspace's."""
    known = all(store.digest == release.specs[modality] for modality, store in pool.stores.items())
    return not (known and _is_ours(files))


@contextmanager
def judge(
    root: Path,
    files: Verified,
    release: Release,
    pool: Pool,
    texts: Mapping[str, str],
    threads: int,
    process: OwnCode | None,
) -> Iterator[Judged]:
    """Yield a version that can be asked.

    Args:
        root: what the paths of media are relative to.
        files: the version's.
        release: the version's.
        pool: the test clips.
        texts: their words.
        threads: of the version's arithmetic.
        process: of its own, see `needs_process`; None: it is asked here. Those that are timed beside each other are asked
            alike.

    Raises:
        Refusal: packages or encoders that it needs are missing; its code cannot be loaded, or not asked.
    """
    if process is None:
        yield Judged(release, pool, texts, root, _Here(_load(files, threads)), "")
        return
    note = check_needs(files.folder, release.version)
    check_encoders(files.folder, release.version)
    process.load(files, threads)
    yield Judged(release, pool, texts, root, process, note)
    files.require_unchanged()


def _load(files: Verified, threads: int) -> _Stored:
    """Load a version whose code is ours; raises Refusal where its parts are damaged or do not belong together."""
    import torch

    torch.set_num_threads(threads)
    model, index = files.folder / "artifacts/model", files.folder / "artifacts/index"
    try:
        loaded = load_model(model)
        return _Stored(loaded.model, Catalogue.open(index, loaded.digest))
    except ValueError as error:
        said = str(error).replace(f"{files.folder}/", "").partition("; run")[0]
        raise Refusal(f"version {files.version}: {said}; register it again") from None


def _is_ours(files: Verified) -> bool:
    """Return whether all code that a version brings is what runs here."""
    ours = {_CODE: Path(str(components.__file__)).parent, _MODEL: Path(str(flows.__file__)).parent / "registration"}
    brought = [name for name in files.marks if name.startswith("code/") or name.endswith(".py")]
    if _MODEL not in brought:
        return False
    for name in brought:
        here = ours[_MODEL] / name if name == _MODEL else ours[_CODE] / name.removeprefix(f"{_CODE}/")
        if not here.is_file() or not filecmp.cmp(files.folder / name, here, shallow=False):
            return False
    return True
