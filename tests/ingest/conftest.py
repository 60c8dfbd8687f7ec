"""A folder of small media, good and bad, and a run of the stage's work over it."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

from components.ingest.params import Ingest
from components.ingest.run import Result, ingest
from components.settings import read_section
from tests.ingest.media_look_alike import blobs, notes, write_clip, write_media

Run = Callable[..., Result]


@pytest.fixture(scope="session")
def params() -> Ingest:
    shipped = read_section(Ingest, "ingest")
    counts = shipped.splits.model_copy(update={"min_train": 1, "min_val": 1, "min_test": 1})
    limits = shipped.limits.model_copy(update={"max_s": 8.0, "clip_s": 3.0})
    return shipped.model_copy(update={"splits": counts, "limits": limits})


def listed(*folders: Path) -> list[dict[str, Any]]:
    """Inventory rows of every file below, without any ids."""
    blank = dict.fromkeys(("video_id", "track_id", "artist_id", "title", "artist", "licence", "source"))
    rows = []
    for path in sorted(file for folder in folders for file in folder.rglob("*") if not file.is_dir()):
        status = path.lstat()
        rows.append({**blank, "uri": str(path), "fingerprint": f"{status.st_size}-{status.st_mtime_ns}"})
    return rows


@pytest.fixture
def run(tmp_path: Path, params: Ingest) -> Run:
    """Run the stage's work on inventory rows, with empty CSV files unless given."""

    def run(
        rows: list[dict[str, Any]], annotations: Path | None = None, seed: Path | None = None, cache: str = "cache"
    ) -> Result:
        if annotations is None:
            annotations = tmp_path / "annotations.csv"
            annotations.write_text("video_id,start,end,text\n")
        if seed is None:
            seed = tmp_path / "seed_tags.csv"
            seed.write_text("path,group,name\n")
        return ingest(rows, [], annotations, seed, tmp_path / "splits.parquet", params, tmp_path / cache)

    return run


@pytest.fixture(scope="session")
def media(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two dozen files: those in `accepted/` must become clips, those in `refused/` must not."""
    root = tmp_path_factory.mktemp("corpus") / "root"
    good, bad = root / "accepted", root / "refused"
    good.mkdir(parents=True)
    bad.mkdir()
    write_clip(good / "plain.mp4", 1)
    write_clip(good / "plain.mkv", 2, container="matroska", audio="libopus", rate_hz=48000)
    for number, name in enumerate(("-dash.mp4", "new\nline.mp4", "Grüße \u97f3.mp4", "concat:a|b.mp4", "http:x.mp4")):
        write_clip(good / name, 10 + number)
    write_clip(good / "same music.mp4", 1, picture=30)
    write_clip(good / "same picture.mp4", 31, picture=1)
    write_clip(good / "long.mp4", 4, seconds=7)

    write_media(bad / "mute.mp4", blobs(1, 30, (64, 48)), None)
    write_media(bad / "blind.wav", None, notes(1, 3, 16000), container="wav", audio="pcm_s16le")
    write_media(bad / "silent.mp4", blobs(2, 30, (64, 48)), np.zeros(48000))
    write_media(bad / "black.mp4", np.zeros((30, 48, 64, 3), np.uint8), notes(5, 3, 16000))
    write_clip(bad / "short.mp4", 6, seconds=1)
    write_clip(bad / "too long.mp4", 7, seconds=9)
    (bad / "zero.mp4").write_bytes(b"")
    (bad / "text.mp4").write_text("dear diary\n" * 50)
    (bad / "playlist.mp4").write_text(f"#EXTM3U\n#EXTINF:1,\n{good / 'plain.mp4'}\n#EXT-X-ENDLIST\n")
    whole = write_clip(bad / "whole.mkv", 8, seconds=4, container="matroska").read_bytes()
    (bad / "cut.mkv").write_bytes(whole[: len(whole) // 2])
    (bad / "whole.mkv").unlink()
    whole = write_clip(bad / "whole.mp4", 9, seconds=4).read_bytes()
    (bad / "cut.mp4").write_bytes(whole[: len(whole) * 6 // 10])
    (bad / "corrupt.mp4").write_bytes(corrupted(whole))
    (bad / "scratched.mp4").write_bytes(scratched(bad / "whole.mp4"))
    (bad / "whole.mp4").unlink()
    (bad / "twin of plain.mp4").write_bytes((good / "plain.mp4").read_bytes())
    write_clip(bad / "plain again.mp4", 1, crf=34, bit_rate=48_000)
    outside = root.parent / "outside.mp4"
    write_clip(outside, 40)
    (bad / "link out.mp4").symlink_to(outside)
    (bad / "gone.mp4").symlink_to(root / "absent.mp4")
    return root


def corrupted(data: bytes) -> bytes:
    """Replace the middle of an MP4's media data by noise; its index stays."""
    begin = data.index(b"mdat") + 4
    end = data.index(b"moov", begin) - 4
    length = (end - begin) // 3
    noise = np.random.default_rng(0).integers(0, 256, length, np.uint8).tobytes()
    return data[: begin + length] + noise + data[begin + 2 * length :]


def scratched(path: Path) -> bytes:
    """Spoil a few bytes inside one picture: it decodes, and the decoder conceals what is missing in it and after it."""
    with av.open(str(path)) as container:
        packets = [packet for packet in container.demux(video=0) if packet.pos is not None and packet.size > 200]
        middle = packets[len(packets) // 3]
        at = middle.pos + middle.size // 2
    data = bytearray(path.read_bytes())
    data[at : at + 20] = np.random.default_rng(1).integers(0, 256, 20, np.uint8).tobytes()
    return bytes(data)
