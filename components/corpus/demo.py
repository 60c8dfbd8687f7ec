"""The demo corpus: rendered clips, their descriptions, a tagged seed library, and the truth."""

import hashlib
import json
import logging
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Final

from components import stage
from components.code import code_digest
from components.corpus.collected import Collected, csv_bytes, truth_table
from components.corpus.ledger import Ledger
from components.corpus.music import require_playable
from components.corpus.params import DemoCorpus, SeedLibrary
from components.corpus.render import render_audio, render_video
from components.corpus.sentences import artist_name, describe, track_title
from components.corpus.world import Clip, World, draw_clip, factors, read_world, stream, truth_row
from components.inputs import require_same_code

log = logging.getLogger(__name__)

SEED_LIBRARY: Final = 1_000_000  # index of its first track, beyond any corpus
_ARTIST_BLOCK: Final = (2, 3, 4)  # tracks of the three artists that share nine clips in a row
_CHUNK: Final = 4  # clips a process renders between two reports

Render = Callable[[World, int, int, float, Path], None]


def render_corpus(params: DemoCorpus, source: Path, media: Path, seed: Path) -> Collected:
    """Render what is missing of the demo corpus and return its tables.

    Args:
        params: the section.
        source: the world description.
        media: folder of the clips (mp4).
        seed: folder of the seed library (m4a).

    Raises:
        ValueError: the world description is wrong.
    """
    world = read_world(source)
    clips = [draw_clip(world, params.seed, index) for index in range(1, params.clips + 1)]
    ids = {clip.index: f"demo-{clip.index:05d}" for clip in clips}
    code = code_digest("components.corpus.render:render_video")
    keys = {f"{ids[clip.index]}.mp4": (clip.index, _content_key(world, params, clip, code, "mp4")) for clip in clips}
    _render_missing(world, params, keys, media, render_video, "clips")
    return Collected(
        inventory=[
            {
                "uri": (media / f"{ids[clip.index]}.mp4").as_posix(),
                "fingerprint": keys[f"{ids[clip.index]}.mp4"][1],
                "video_id": ids[clip.index],
                "licence": "CC0-1.0",
                "source": "needledrop-demo",
                **_credits(params.seed, clip.index),
            }
            for clip in clips
        ],
        annotations=csv_bytes(
            ("video_id", "start", "end", "text"),
            [(ids[clip.index], "0", f"{params.clip_s:g}", _description(world, params.seed, clip)) for clip in clips
             if stream(params.seed, clip.index, 7).random() < params.annotated],
        ),
        seed_tags=render_seed_library(world, params, seed),
        truth=truth_table([truth_row(clip, ids[clip.index]) for clip in clips], factors(world)),
        refused=[],
    )  # fmt: skip


def render_seed_library(world: World, params: SeedLibrary, folder: Path) -> bytes:
    """Render what is missing of the seed library; returns seed_tags.csv, one row per (track, tag)."""
    clips = [draw_clip(world, params.seed, SEED_LIBRARY + number) for number in range(1, params.seed_clips + 1)]
    names = {clip.index: f"seed-{clip.index - SEED_LIBRARY:04d}.m4a" for clip in clips}
    code = code_digest("components.corpus.render:render_audio")
    keys = {names[clip.index]: (clip.index, _content_key(world, params, clip, code, "m4a")) for clip in clips}
    _render_missing(world, params, keys, folder, render_audio, "seed library")
    rows = []
    for clip in clips:
        path = f"{folder.name}/{names[clip.index]}"
        rows.append((path, "genres", list(world.genres)[clip.music.genre]))
        rows.append((path, "moods", list(world.moods)[clip.music.mood]))
        rows += [(path, "instruments", list(world.instruments)[value]) for value in clip.music.instruments]
    return csv_bytes(("path", "group", "name"), rows)


def artist_of(seed: int, index: int) -> int:
    """Return the number of the artist of clip ``index`` (from 1): two to four clips in a row share one."""
    block, place = divmod(index - 1, sum(_ARTIST_BLOCK))
    sizes = stream(seed, block, 5).permutation(_ARTIST_BLOCK)
    return 3 * block + 1 + int(place >= sizes[0]) + int(place >= sizes[0] + sizes[1])


def _credits(seed: int, index: int) -> dict[str, str]:
    artist = artist_of(seed, index)
    return {
        "track_id": f"demo-track-{index:05d}",
        "artist_id": f"demo-artist-{artist:05d}",
        "artist": artist_name(seed, artist),
        "title": track_title(stream(seed, index, 4)),
    }


def _description(world: World, seed: int, clip: Clip) -> str:
    return describe(world, clip.text, stream(seed, clip.index, 6))


def _content_key(world: World, params: SeedLibrary, clip: Clip, code: str, container: str) -> str:
    """Digest everything that decides the file's content, and nothing else: new words render nothing anew."""
    moods = list(world.moods.values())
    heard, seen = moods[clip.music.mood], moods[clip.video.mood]
    content: list[Any] = [
        code, container, params.seed, clip.index, params.clip_s, world.tempo.model_dump(),
        list(world.genres)[clip.music.genre], heard.root, heard.scale, heard.shift,
        [list(world.instruments)[value] for value in clip.music.instruments], clip.music.tempo, clip.music.nuance,
    ]  # fmt: skip
    if container == "mp4":
        content += [seen.hues, clip.video.tempo, clip.video.nuance]
    return hashlib.sha256(json.dumps(content).encode()).hexdigest()[:24]


def _render_missing(
    world: World, params: SeedLibrary, keys: dict[str, tuple[int, str]], folder: Path, render: Render, label: str
) -> None:
    """Bring ``folder`` to hold exactly the files of ``keys`` (name -> index, content key)."""
    require_playable(world)
    ledger = Ledger(folder)
    ledger.keep_only(keys)
    missing = [name for name, (_, key) in keys.items() if not ledger.has(name, key)]
    chunks = [missing[start : start + _CHUNK] for start in range(0, len(missing), _CHUNK)]
    jobs = [
        (world, params.seed, params.clip_s, folder, [(name, keys[name][0]) for name in chunk], render)
        for chunk in chunks
    ]
    for chunk in stage.progress(_in_processes(jobs, params.workers), f"corpus {label}", len(jobs)):
        require_same_code()  # the keys hold the digest of the code
        ledger.add((name, keys[name][1]) for name in chunk)
    log.info("corpus %s: %d files, %d rendered, %d kept", label, len(keys), len(missing), len(keys) - len(missing))


def _render_chunk(job: tuple[World, int, float, Path, list[tuple[str, int]], Render]) -> list[str]:
    world, seed, length_s, folder, files, render = job
    for name, index in files:
        render(world, seed, index, length_s, folder / name)
    return [name for name, _ in files]


def _in_processes(jobs: Sequence[Any], workers: int) -> Iterator[list[str]]:
    if min(workers, len(jobs)) < 2:
        yield from map(_render_chunk, jobs)
        return
    from concurrent.futures import ProcessPoolExecutor, as_completed
    from multiprocessing import get_context

    with ProcessPoolExecutor(min(workers, len(jobs)), mp_context=get_context("spawn")) as pool:
        try:
            for done in as_completed([pool.submit(_render_chunk, job) for job in jobs]):
                yield done.result()
        finally:
            pool.shutdown(wait=True, cancel_futures=True)
