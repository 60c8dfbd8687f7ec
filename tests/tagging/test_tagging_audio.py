"""Taggers that listen: windows over the whole clip, batches, increments, what fails and what is said of it."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from hypothesis import given
from hypothesis import strategies as st

from components import tables
from components.settings import read_params
from components.tagging.audio import AudioTagger
from components.tagging.clips import Clip, as_clip
from components.tagging.folder import SEED_SCORES, partial_of
from components.tagging.judge import judged, known_truth
from components.tagging.params import CnnParams, Thresholds
from components.tagging.progress import score_clips
from components.tagging.sound import count_windows, windows
from components.tagging.tag import Outputs, publish, read_scores, tag_rows
from components.tagging.tagger import Fitted, Library
from components.tagging.vocabulary import Vocabulary, mapped
from components.taxonomy import read_taxonomy
from tests.tagging.look_alikes import AUDIO, RATE_HZ, clip_row, seed_row, tiny_state, tone, write_wav

TAXONOMY = read_taxonomy(Path("components/taxonomy.yaml"))
LABELS = ("genre---rock", "piano", "pianos", "fortepiano-like", "horn")  # two for piano, one unmapped, one for two tags


class Loudness:
    """Hears 1 s windows; its labels rise with the window's mean level, in different steps."""

    labels, rate_hz, window_s, digest = LABELS, RATE_HZ, 1.0, "loudness"

    def __init__(self, most: int = 1000) -> None:
        self.most = most
        self.batches: list[int] = []

    def __call__(self, sounds: np.ndarray) -> np.ndarray:
        self.batches.append(len(sounds))
        if len(sounds) > self.most:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB")
        level = np.abs(sounds.astype(np.float64)).mean(axis=1)
        return np.stack([level, level / 2, level / 4, 1 - level, level * 2], axis=1)


def params(**changed: object) -> CnnParams:
    own = {"kind": "cnn", "architecture": "fcn", "weights": "w", "labels": "l"}
    return CnnParams.model_validate(AUDIO | own | changed)


def constant(path: Path, *levels: float) -> Path:
    """A file with one second of each level."""
    return write_wav(path, np.repeat(levels, RATE_HZ).astype(np.float32))


def clip_of(path: Path, seconds: float, start_s: float = 0.0) -> Clip:
    return as_clip(clip_row(path.stem, path, seconds, start_s))


def scores_of(tagger: AudioTagger, *clips: Clip) -> dict[str, object]:
    return dict(tagger.score(clips))


# -- windows -------------------------------------------------------------------------------------


@given(st.integers(1, 200), st.integers(1, 50), st.integers(1, 60))
def test_windows_cover_the_sound_to_its_end(samples: int, length: int, hop: int) -> None:
    sound = np.arange(samples, dtype=np.float32)
    cut = list(windows(sound, length, hop))
    assert len(cut) == count_windows(samples, length, hop) and all(len(window) == length for window in cut)
    heard = {int(value) for window in cut for value in window}
    assert {0, samples - 1} <= heard
    if hop <= length:
        assert heard == set(range(samples))


def test_a_short_sound_is_repeated() -> None:
    assert [w.tolist() for w in windows(np.array([1, 2, 3], np.float32), 7, 2)] == [[1, 2, 3, 1, 2, 3, 1]]


def test_a_clip_is_the_mean_of_its_windows_within_its_part_of_the_file(tmp_path: Path) -> None:
    path = constant(tmp_path / "a.wav", 0.9, 0.2, 0.4, 0.6, 0.9)
    tagger = AudioTagger(Loudness(), params(hop_s=1.0))
    found = scores_of(tagger, clip_of(path, 3.0, start_s=1.0))
    assert np.allclose(found["a"], [0.4, 0.2, 0.1, 0.6, 0.8], atol=1e-3)
    # Two windows, the second drawn back to end with the clip: 0.2 and (0.2 + 0.4) / 2.
    found = scores_of(tagger, clip_of(path, 1.5, start_s=1.0))
    assert np.isclose(found["a"][0], (0.2 + (0.5 * 0.2 + 0.5 * 0.4)) / 2, atol=1e-3)


def test_batches_hold_windows_of_many_clips_and_change_nothing(tmp_path: Path) -> None:
    clips = [clip_of(constant(tmp_path / f"c{n}.wav", *([0.1 * n + 0.1] * (n + 1))), n + 1.0) for n in range(4)]
    listener = Loudness()
    found = scores_of(AudioTagger(listener, params(hop_s=1.0, batch_size=4)), *clips)
    assert listener.batches == [4, 4, 4]  # 1 + 2 + 3 + 4 windows; the last batch is filled with silence
    for size in (1, 3, 64):
        again = scores_of(AudioTagger(Loudness(), params(hop_s=1.0, batch_size=size)), *clips[::-1])
        assert found.keys() == again.keys() and all(np.array_equal(found[key], again[key]) for key in found)


def test_a_real_net_gives_the_same_bits_whatever_else_is_in_the_batch(tmp_path: Path) -> None:
    from components.tagging.cnn import Cnn

    torch.save(tiny_state("musicnn", outputs=len(LABELS)), tmp_path / "w")
    (tmp_path / "l").write_text("\n".join(LABELS))
    section = params(architecture="musicnn", weights=str(tmp_path / "w"), labels=str(tmp_path / "l"), hop_s=3.0)
    clips = [clip_of(write_wav(tmp_path / f"c{n}.wav", tone(200.0 * n + 100, 4.0)), 4.0) for n in range(3)]
    tagger = AudioTagger(Cnn(section), section)
    together = scores_of(tagger, *clips)
    for clip in clips:
        np.testing.assert_array_equal(scores_of(tagger, clip)[clip.clip_id], together[clip.clip_id])


def test_out_of_memory_halves_the_batch_and_goes_on(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    clips = [clip_of(constant(tmp_path / f"c{n}.wav", *([0.1 * n + 0.1] * 3)), 3.0) for n in range(4)]
    wanted = scores_of(AudioTagger(Loudness(), params(hop_s=1.0)), *clips)
    listener = Loudness(most=2)
    found = scores_of(AudioTagger(listener, params(hop_s=1.0, batch_size=8)), *clips)
    assert listener.batches == [8, 4, 2, 2, 2, 2, 2, 2]
    assert all(np.array_equal(found[key], wanted[key]) for key in wanted)
    assert "out of memory with 8 windows; going on with 4" in caplog.text
    with pytest.raises(ValueError, match="not enough memory to listen to a single window"):
        scores_of(AudioTagger(Loudness(most=0), params(hop_s=1.0)), *clips)


# -- labels to tags ------------------------------------------------------------------------------


def test_labels_become_tags_and_none_is_lost(tmp_path: Path) -> None:
    vocabulary = mapped(LABELS, TAXONOMY)
    assert vocabulary.meant[:4] == ((("genres", "rock"),), (("instruments", "piano"),), (("instruments", "piano"),), ())
    assert vocabulary.meant[4] == (("instruments", "brass"), ("instruments", "trumpet"))
    assert vocabulary.unmapped == ("fortepiano-like",)
    scores = np.array([[0.5, 0.2, 0.6, 0.9, 0.4]])
    assert vocabulary.tags == [("genres", "rock"), *(("instruments", name) for name in ("brass", "piano", "trumpet"))]
    assert vocabulary.of_tags(scores).tolist() == [[0.5, 0.4, 0.6, 0.4]]  # piano: the likelier of its two labels
    assert {"label": "fortepiano-like", "tags": []} in vocabulary.document()["labels"]


def test_a_label_that_stands_twice_is_refused() -> None:
    with pytest.raises(ValueError, match="label 'rock' stands twice"):
        Vocabulary(("rock", "rock"), ((), ()))


def outputs(folder: Path) -> Outputs:
    return Outputs(*(folder / name for name in ("tags.parquet", "scores.parquet", "refused.parquet", "tagger")))


def run(folder: Path, section: CnnParams, clips: list[Clip], seed: list[dict] | None = None, listener=None):
    out = outputs(folder)
    fitted = judged(listener or Loudness(), section, TAXONOMY, Library(seed or [], folder, folder), out.tagger)
    scored = score_clips(fitted.tagger, clips, read_scores(out.scores), partial_of(out.scores))
    return fitted, scored, publish(scored, fitted, section, out)


def test_the_table_of_scores_shows_every_label(tmp_path: Path) -> None:
    clip = clip_of(constant(tmp_path / "a.wav", 0.4), 1.0)
    _, _, rows = run(tmp_path / "o", params(), [clip])
    (row,) = tables.read_rows(tmp_path / "o" / "scores.parquet", tables.TAG_SCORES)
    shown = [(s["label"], s["group"], s["name"], round(s["probability"], 3)) for s in row["scores"]]
    assert shown == [
        ("genre---rock", "genres", "rock", 0.4), ("piano", "instruments", "piano", 0.2),
        ("pianos", "instruments", "piano", 0.1), ("fortepiano-like", None, None, 0.6),
        ("horn", "instruments", "brass", 0.8), ("horn", "instruments", "trumpet", 0.8),
    ]  # fmt: skip
    assert [(tag["name"], round(tag["probability"], 3)) for tag in rows[0]["tags"]] == [
        ("rock", 0.4), ("brass", 0.8), ("trumpet", 0.8)
    ]  # fmt: skip
    document = json.loads((tmp_path / "o" / "tagger" / "vocabulary.json").read_text())
    assert document["unmapped"] == ["fortepiano-like"]


# -- what fails ----------------------------------------------------------------------------------


def test_what_cannot_be_heard_is_quarantined_and_the_rest_goes_on(tmp_path: Path) -> None:
    good = clip_of(constant(tmp_path / "good.wav", 0.5), 1.0)
    silent = clip_of(constant(tmp_path / "silent.wav", 0.0), 1.0)
    (tmp_path / "noise.wav").write_bytes(os.urandom(4000))
    (tmp_path / "empty.wav").write_bytes(b"")
    late = clip_of(tmp_path / "good.wav", 2.0, start_s=30.0)
    broken = [clip_of(tmp_path / name, 1.0) for name in ("noise.wav", "empty.wav", "gone.wav")]
    clips = [good, silent, *broken, Clip("late", late.uri, "s", late.start_s, late.end_s)]
    _, scored, rows = run(tmp_path / "o", params(), clips)
    assert [row["clip_id"] for row in rows] == ["good", "silent"]
    refused = tables.read_rows(tmp_path / "o" / "refused.parquet", tables.QUARANTINE)
    reasons = {Path(row["uri"]).name: row["reason"] for row in refused}
    assert reasons == {
        "noise.wav": "not_media", "empty.wav": "empty_file", "gone.wav": "unreadable", "good.wav": "no_audio"
    }  # fmt: skip
    assert {row["stage"] for row in refused} == {"tagging"} and scored.computed == 2
    (tmp_path / "gone.wav").write_bytes((tmp_path / "good.wav").read_bytes())
    assert run(tmp_path / "o", params(), clips)[1].computed == 1  # tried again, now that it is there


def test_a_probability_that_is_not_a_number_costs_its_row_only(tmp_path: Path) -> None:
    class Odd(Loudness):
        def __call__(self, sounds: np.ndarray) -> np.ndarray:
            answers = super().__call__(sounds)
            answers[answers[:, 0] > 0.8] = np.nan
            return answers

    clips = [clip_of(constant(tmp_path / f"{n}.wav", level), 1.0) for n, level in (("a", 0.2), ("b", 0.9), ("c", 0.3))]
    _, scored, rows = run(tmp_path / "o", params(), clips, listener=Odd())
    assert [row["clip_id"] for row in rows] == ["a", "c"] and [row["reason"] for row in scored.refused] == [
        "not_finite"
    ]


def test_when_nothing_can_be_heard_the_run_stops_with_a_reason(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"not one of 1 clips could be tagged; .*gone\.wav: unreadable"):
        run(tmp_path / "o", params(), [clip_of(tmp_path / "gone.wav", 1.0)])


def test_no_clips_and_no_seed_library(tmp_path: Path) -> None:
    fitted, scored, rows = run(tmp_path / "o", params(calibrate=True), [])
    assert rows == [] and scored.computed == 0 and fitted.lines == {} and fitted.scores["groups"] == {}
    assert sum("not calibrated" in note for note in fitted.notes) == 3
    assert run(tmp_path / "o", params(), [clip_of(constant(tmp_path / "a.wav", 0.5), 1.0)])[1].computed == 1


# -- increments ----------------------------------------------------------------------------------


def content(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_only_new_and_changed_clips_are_listened_to(tmp_path: Path) -> None:
    clips = [clip_of(constant(tmp_path / f"c{n}.wav", 0.1 * n, 0.3), 2.0) for n in range(6)]
    run(tmp_path / "grown", params(), [clips[4], clips[0], clips[2]])
    _, scored, _ = run(tmp_path / "grown", params(), clips)
    assert (scored.computed, scored.kept, scored.dropped) == (3, 3, 0)
    run(tmp_path / "scratch", params(), clips)
    assert content(tmp_path / "grown") == content(tmp_path / "scratch")
    moved = [Clip(c.clip_id, c.uri.replace("c0", "c1"), c.sha256, c.start_s, c.end_s) for c in clips]
    assert run(tmp_path / "grown", params(), moved)[1].computed == 0
    cut = [Clip(clips[0].clip_id, clips[0].uri, clips[0].sha256, 0.0, 1.0), *clips[1:5]]
    _, scored, _ = run(tmp_path / "grown", params(), cut)
    assert (scored.computed, scored.kept, scored.dropped) == (1, 4, 1)
    assert run(tmp_path / "grown", params(hop_s=0.5), cut)[1].kept == 0
    assert run(tmp_path / "grown", params(hop_s=0.5, batch_size=2), cut)[1].computed == 0


def test_shards_of_a_stopped_run_are_used(tmp_path: Path) -> None:
    clips = [clip_of(constant(tmp_path / f"c{n}.wav", 0.1 * n), 1.0) for n in range(5)]

    class Dies(Loudness):
        def __call__(self, sounds: np.ndarray) -> np.ndarray:
            if len(self.batches) == 3:
                raise KeyboardInterrupt
            return super().__call__(sounds)

    partial = tmp_path / "o" / "scores.parquet.partial"
    with pytest.raises(KeyboardInterrupt):
        score_clips(AudioTagger(Dies(), params(batch_size=1)), clips, {}, partial, flush_s=0.0)
    assert len(list(partial.iterdir())) == 3
    (partial / "part-00009.parquet").write_bytes(b"half")
    _, scored, _ = run(tmp_path / "o", params(batch_size=1), clips)
    assert (scored.computed, scored.kept) == (2, 3) and not partial.exists()
    run(tmp_path / "scratch", params(batch_size=1), clips)
    assert content(tmp_path / "o") == content(tmp_path / "scratch")


# -- the seed library ----------------------------------------------------------------------------


def test_truth_is_what_the_library_says_and_implies() -> None:
    rows = [seed_row(f"s{n}", Path("x"), 1.0, ("instruments", "violins")) for n in range(6)]
    rows += [seed_row(f"t{n}", Path("x"), 1.0, ("genres", "Rock music")) for n in range(6)]
    tags = [("genres", "rock"), ("instruments", "piano"), ("instruments", "strings"), ("instruments", "violin")]
    truth = known_truth(rows, tags, TAXONOMY, 3)
    assert truth.tags == [tags[0], *tags[2:]]  # a violin is strings, too
    assert truth.labels[:, 0].tolist() == [False] * 6 + [True] * 6
    assert known_truth(rows[:9], tags, TAXONOMY, 3).tags == []  # too few tracks for cross-validation
    assert known_truth(rows, tags, TAXONOMY, 7).left_out == [(tag, 6) for tag in (tags[0], *tags[2:])]


def shy_library(folder: Path) -> list[dict]:
    """Loud tracks are rock; Loudness says so, far too shyly. Piano has nothing to do with it."""
    rng = np.random.default_rng(0)
    rows = []
    for n in range(40):
        level = float(rng.uniform(0.02, 0.25))
        tags = [("genres", "rock")] if level + rng.normal(0, 0.015) > 0.13 else [("genres", "jazz")]
        tags += [("instruments", "piano")] if level < 0.13 else []
        rows.append(seed_row(f"s{n:02d}", constant(folder / f"s{n:02d}.wav", level), 1.0, *tags))
    return rows


def test_the_seed_library_calibrates_and_judges(tmp_path: Path) -> None:
    seed = shy_library(tmp_path)
    loud = clip_of(constant(tmp_path / "loud.wav", 0.25), 1.0)
    plain, _, before = run(tmp_path / "plain", params(), [loud], seed)
    assert plain.lines == {} and "rock" not in [tag["name"] for tag in before[0]["tags"]]
    listener = Loudness()
    fitted, _, after = run(tmp_path / "o", params(calibrate=True), [loud], seed, listener)
    assert set(fitted.lines) == {"genres"}
    assert "instruments: not calibrated, its scores do not follow the labels" in fitted.notes
    assert "moods: not calibrated, no tag has enough tracks" in fitted.notes
    figures = fitted.scores["groups"]["genres"]
    assert figures["roc_auc"] > 0.85 and figures["calibrated"] and figures["ece"] < figures["ece_uncalibrated"]
    assert "rock" in [tag["name"] for tag in after[0]["tags"]]
    (row,) = tables.read_rows(tmp_path / "o" / "scores.parquet", tables.TAG_SCORES)
    assert round(row["scores"][0]["score"], 2) == 0.25 and row["scores"][0]["probability"] > 0.5
    again = Loudness()
    kept = content(tmp_path / "o")
    run(tmp_path / "o", params(calibrate=True), [loud], seed, again)
    assert again.batches == [] and content(tmp_path / "o") == kept, "the library is listened to once"
    assert (tmp_path / "o" / "tagger" / SEED_SCORES).exists()


# -- the stage -----------------------------------------------------------------------------------


def workspace(folder: Path, clips: int) -> list[str]:
    """A folder with params, weights and clips; return the stage's command."""
    section = AUDIO | {"kind": "cnn", "architecture": "musicnn", "weights": "w.pth", "labels": "l.txt", "batch_size": 1}
    (folder / "params.yaml").write_text(yaml.safe_dump(read_params() | {"tagging": section}))
    torch.save(tiny_state("musicnn", outputs=len(LABELS)), folder / "w.pth")
    (folder / "l.txt").write_text("\n".join(LABELS))
    rows = [clip_row(f"c{n:03d}", Path(f"c{n:03d}.wav"), 4.0) for n in range(clips)]
    for row in rows:
        write_wav(folder / row["uri"], tone(100 + 10 * int(row["clip_id"][1:]), 4.0))
    tables.write_rows(folder / "manifest.parquet", rows, tables.MANIFEST)
    tables.write_rows(folder / "seed.parquet", [], tables.SEED)
    places = {
        "manifest": "manifest.parquet", "music": "none", "seed": "seed.parquet", "seed-music": "none",
        "taxonomy": str(Path("components/taxonomy.yaml").absolute()), "tags": "o/tags.parquet",
        "scores": "o/scores.parquet", "quarantine": "o/refused.parquet", "tagger": "o/tagger",
    }  # fmt: skip
    return [sys.executable, "-m", "components.tagging", *(w for n, p in places.items() for w in (f"--{n}", p))]


def test_a_killed_run_goes_on_where_it_was(tmp_path: Path) -> None:
    command = workspace(tmp_path, 6)
    here = os.environ | {"PYTHONPATH": str(Path.cwd())}
    slow = (
        "import time, runpy, sys\n"
        "from components.tagging import cnn, progress\n"
        "progress._FLUSH_S = 0.0\n"
        "progress.score_clips.__defaults__ = (0.0,)\n"
        "hear = cnn.Cnn.__call__\n"
        "cnn.Cnn.__call__ = lambda self, sounds: (time.sleep(0.4), hear(self, sounds))[1]\n"
        "runpy.run_module('components.tagging', run_name='__main__', alter_sys=True)\n"
    )
    process = subprocess.Popen([command[0], "-c", slow, *command[3:]], cwd=tmp_path, env=here)
    partial = tmp_path / "o" / "scores.parquet.partial"
    patience = time.monotonic() + 60
    while len(list(partial.glob("*.parquet"))) < 2 and time.monotonic() < patience:
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.wait()
    done = subprocess.run(command, cwd=tmp_path, env=here, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    kept = int(done.stdout.split(" computed, ")[1].split(" kept")[0])
    assert 2 <= kept < 6 and f"6 rows, {6 - kept} computed" in done.stdout
    assert "1 labels have no place in the taxonomy: fortepiano-like" in done.stdout
    assert len(tables.read_rows(tmp_path / "o" / "tags.parquet", tables.TAGS)) == 6 and not partial.exists()


def test_thresholds_are_those_of_the_section(tmp_path: Path) -> None:
    clip = clip_of(constant(tmp_path / "a.wav", 0.4), 1.0)
    fitted, scored, _ = run(tmp_path / "o", params(), [clip])
    assert isinstance(fitted, Fitted)
    (row,) = tag_rows(scored, fitted, Thresholds(genres=0.5, moods=0.3, instruments=0.15))
    assert [tag["name"] for tag in row["tags"]] == ["brass", "trumpet", "piano"]
