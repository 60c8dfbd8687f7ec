"""The feature store: bytes do not depend on history, a stop loses little, damage is named."""

import gc
import hashlib
import json
import os
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from components.increments import update_store
from components.store import INDEX, FeatureStore, segment_mean, segment_spread

SPEC = {"modality": "music", "kind": "test", "dims": 3, "max_segments": 4}


def features_of(clip_id: str, key: str) -> np.ndarray:
    """A clip's features: (1 to 4, 3) numbers that its id and content decide."""
    code = hashlib.sha256(f"{clip_id}:{key}".encode()).digest()
    segments = 1 + code[0] % 4
    return np.frombuffer(code[: segments * 3], np.uint8).reshape(segments, 3).astype(np.float32) / 7


def update(folder: Path, rows: dict[str, str], spec: dict = SPEC, shard_rows: int = 3, asked: list[str] | None = None):
    def compute(clip_ids: list[str]) -> Iterator[tuple[str, np.ndarray]]:
        for clip_id in reversed(clip_ids):  # any order is allowed
            if asked is not None:
                asked.append(clip_id)
            yield clip_id, features_of(clip_id, rows[clip_id])

    return update_store(folder, spec, rows.items(), compute, shard_rows)


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


def test_gather_returns_what_was_computed_with_its_mask(tmp_path: Path) -> None:
    rows = {f"c{n}": "k" for n in range(8)}
    update(tmp_path / "s", rows)
    store = FeatureStore.open(tmp_path / "s")
    assert store.clip_ids == sorted(rows) and len(store) == 8 and "c3" in store and "x" not in store
    features, mask = store.gather(["c7", "c0", "c7"])
    assert features.shape == (3, 4, 3) and features.dtype == np.float32 and mask.dtype == np.bool_
    for at, clip_id in enumerate(["c7", "c0", "c7"]):
        truth = features_of(clip_id, "k").astype(np.float16).astype(np.float32)
        assert mask[at].sum() == len(truth)
        np.testing.assert_array_equal(features[at, : len(truth)], truth)
        assert not features[at, len(truth) :].any()


@pytest.mark.parametrize("shard_rows", [1, 3, 50])
def test_take_returns_rows_in_the_order_asked_for(tmp_path: Path, shard_rows: int) -> None:
    update(tmp_path / "s", {f"c{n:02d}": "k" for n in range(20)}, shard_rows=shard_rows)
    whole = np.load(tmp_path / "s" / "shard-00000.npy")
    store = FeatureStore.open(tmp_path / "s")
    rows = np.array([19, 0, 7, 7, 18, 3, 11])
    features, mask = store.take(rows)
    assert features.dtype == np.float16 and features.flags.writeable
    np.testing.assert_array_equal(features, whole[rows])
    np.testing.assert_array_equal(mask.sum(1), store.segments[rows])
    nothing, none = store.take(np.zeros(0, np.int64))
    assert nothing.shape == (0, 4, 3) and none.shape == (0, 4)
    for no_row in (20, 10**9, 2**62, -1, -(2**62)):
        with pytest.raises(IndexError):
            store.take(np.array([0, no_row]))


@settings(max_examples=50, deadline=None)
@given(st.integers(1, 5), st.integers(1, 40), st.integers(1, 12), st.integers(1, 5), st.data())
def test_rows_of_any_size_are_stored_as_they_were(
    tmp_path_factory: pytest.TempPathFactory, segments: int, dims: int, clips: int, shard_rows: int, data: st.DataObject
) -> None:
    folder = tmp_path_factory.mktemp("store")
    values = np.arange(clips * segments * dims, dtype=np.uint16).reshape(clips, segments, dims) % 2048
    spec = {"dims": dims, "max_segments": segments}
    rows = [(f"{n:02d}", "k") for n in range(clips)]
    update_store(
        folder / "s", spec, rows, lambda ids: ((i, values[int(i)].astype(np.float32)) for i in ids), shard_rows
    )
    asked = np.array(data.draw(st.lists(st.integers(0, clips - 1), max_size=20)), np.int64)
    features, _ = FeatureStore.open(folder / "s").take(asked)
    np.testing.assert_array_equal(features, values[asked])


def test_rows_taken_stay_when_the_store_is_gone(tmp_path: Path) -> None:
    update(tmp_path / "s", {f"c{n}": "k" for n in range(8)})
    features, _ = FeatureStore.open(tmp_path / "s").take(np.arange(8))
    before = features.copy()
    gc.collect()
    np.testing.assert_array_equal(features, before)


def test_the_layout_is_one_array_in_clip_order_whatever_fits_into_memory(tmp_path: Path) -> None:
    rows = {f"c{n}": "k" for n in (3, 1, 0, 2, 4, 6, 5)}
    expected = np.zeros((7, 4, 3), np.float16)
    for at, clip_id in enumerate(sorted(rows)):
        values = features_of(clip_id, "k")
        expected[at, : len(values)] = values
    np.save(tmp_path / "expected.npy", expected)
    for shard_rows in (1, 3, 7, 100):
        update(tmp_path / str(shard_rows), rows, shard_rows=shard_rows)
        assert contents(tmp_path / str(shard_rows)) == contents(tmp_path / "1")
    assert (tmp_path / "1" / "shard-00000.npy").read_bytes() == (tmp_path / "expected.npy").read_bytes()


def cut(folder: Path, shard_rows: int) -> None:
    """Rewrite a store as earlier releases did: a file for every so many rows."""
    whole = np.load(folder / "shard-00000.npy")
    head, checksums = json.loads((folder / "spec.json").read_text()), []
    for number, first in enumerate(range(0, len(whole), shard_rows)):
        path = folder / f"shard-{number:05d}.npy"
        np.save(path, whole[first : first + shard_rows])
        checksums.append(hashlib.sha256(path.read_bytes()).hexdigest())
    index = pq.read_table(folder / "index.parquet").to_pylist()
    index = [row | {"shard": at // shard_rows, "row": at % shard_rows} for at, row in enumerate(index)]
    pq.write_table(pa.Table.from_pylist(index, INDEX), folder / "index.parquet")
    (folder / "spec.json").write_text(json.dumps(head | {"shard_rows": shard_rows, "sha256": checksums}))


def test_a_store_of_several_files_is_named_and_joined_without_computing(tmp_path: Path) -> None:
    rows = {f"c{n}": "k" for n in range(8)}
    update(tmp_path / "s", rows)
    good = contents(tmp_path / "s")
    cut(tmp_path / "s", 3)
    assert sorted(contents(tmp_path / "s"))[1:] == [f"shard-0000{n}.npy" for n in range(3)] + ["spec.json"]
    with pytest.raises(ValueError, match=r"s: 3 shard files, as an earlier release wrote them.*run the features stage"):
        FeatureStore.open(tmp_path / "s")
    report = update(tmp_path / "s", rows)
    assert (report.computed, report.kept) == (0, 8)
    assert contents(tmp_path / "s") == good


def test_a_damaged_file_of_several_costs_its_own_rows_only(tmp_path: Path) -> None:
    rows = {f"c{n}": "k" for n in range(8)}
    update(tmp_path / "s", rows)
    good = contents(tmp_path / "s")
    cut(tmp_path / "s", 3)
    (tmp_path / "s" / "shard-00001.npy").write_bytes(b"not numpy")
    report = update(tmp_path / "s", rows)
    assert (report.computed, report.kept) == (3, 5)
    assert contents(tmp_path / "s") == good


def test_every_float16_widens_exactly(tmp_path: Path) -> None:
    numbers = np.arange(65536, dtype=np.uint16).view(np.float16)
    numbers = numbers[np.isfinite(numbers)]
    spec = SPEC | {"dims": len(numbers), "max_segments": 1}
    update_store(tmp_path / "s", spec, [("a", "k")], lambda ids: iter([("a", numbers[None])]), 1)
    features, _ = FeatureStore.open(tmp_path / "s").gather(["a"])
    np.testing.assert_array_equal(features[0, 0], numbers.astype(np.float32))


def test_means_and_spreads_are_over_valid_segments(tmp_path: Path) -> None:
    values = np.array([[[1, 2], [3, 6], [8, 7]], [[4, 4], [9, 9], [9, 9]], [[9, 9], [9, 9], [9, 9]]], np.float32)
    mask = np.array([[True, True, True], [True, False, False], [False, False, False]])
    assert segment_mean(values, mask).tolist() == [[4.0, 5.0], [4.0, 4.0], [0.0, 0.0]]
    # Around 4: 9, 1, 16. Around 5: 9, 1, 4.
    np.testing.assert_allclose(segment_spread(values, mask), [[(26 / 3) ** 0.5, (14 / 3) ** 0.5], [0, 0], [0, 0]])
    rows = {f"c{n}": "k" for n in range(5)}
    update(tmp_path / "s", rows)
    asked = ["c4", "c0", "c4"]
    expected = [features_of(clip_id, "k").astype(np.float16).astype(np.float64).mean(axis=0) for clip_id in asked]
    means = FeatureStore.open(tmp_path / "s").means(asked)
    assert means.dtype == np.float32
    np.testing.assert_array_equal(means, np.array(expected, np.float32))


def test_three_percent_more_rows_compute_only_those(tmp_path: Path) -> None:
    rows = {f"c{n:03d}": "k" for n in range(100)}
    update(tmp_path / "s", rows, shard_rows=16)
    more = rows | {"a-first": "k", "c050-middle": "k", "z-last": "k"}
    asked: list[str] = []
    report = update(tmp_path / "s", more, shard_rows=16, asked=asked)
    assert (report.rows, report.computed, report.kept, report.dropped) == (103, 3, 100, 0)
    assert sorted(asked) == ["a-first", "c050-middle", "z-last"]
    update(tmp_path / "scratch", more, shard_rows=16)
    assert contents(tmp_path / "s") == contents(tmp_path / "scratch")


@settings(max_examples=25, deadline=None)
@given(
    st.lists(st.dictionaries(st.sampled_from("abcdefghij"), st.sampled_from(["1", "2"])), min_size=1, max_size=4),
    st.integers(1, 5),
)
def test_no_history_changes_the_bytes(
    tmp_path_factory: pytest.TempPathFactory, history: list[dict[str, str]], shard_rows: int
) -> None:
    folder = tmp_path_factory.mktemp("store")
    last: dict[str, str] = {}
    for rows in history:
        report = update(folder / "grown", rows, shard_rows=shard_rows)
        same = {clip_id for clip_id, key in rows.items() if last.get(clip_id) == key}
        assert (report.kept, report.computed, report.dropped) == (
            len(same),
            len(rows) - len(same),
            len(set(last) - set(rows)),
        )
        last = rows
    update(folder / "scratch", last, shard_rows=shard_rows)
    assert contents(folder / "grown") == contents(folder / "scratch")
    assert sorted(path.name for path in folder.iterdir()) == ["grown", "scratch"]


def test_another_spec_computes_all_rows_again(tmp_path: Path) -> None:
    update(tmp_path / "s", {"a": "k", "b": "k"})
    report = update(tmp_path / "s", {"a": "k", "b": "k"}, spec=SPEC | {"version": 2})
    assert (report.computed, report.kept) == (2, 0)


def test_refused_rows_are_reported_and_the_rest_goes_on(tmp_path: Path) -> None:
    class Broken(ValueError):
        reason, detail = "no_audio", "no sound\nin it"

    answers = {"a": Broken(), "b": np.full((1, 3), np.nan), "c": np.ones((2, 3)), "d": np.full((1, 3), 1e9)}
    report = update_store(
        tmp_path / "s", SPEC, [(c, "k") for c in answers], lambda ids: ((i, answers[i]) for i in ids), 4
    )
    assert (report.rows, report.computed) == (1, 1)
    assert [(clip_id, reason) for clip_id, reason, _ in report.refused] == [
        ("a", "no_audio"),
        ("b", "not_finite"),
        ("d", "not_finite"),
    ]
    assert report.refused[0][2] == "no sound in it"
    assert "a" not in FeatureStore.open(tmp_path / "s")


def test_when_all_rows_are_refused_the_old_store_stays(tmp_path: Path) -> None:
    update(tmp_path / "s", {"a": "k"})
    before = contents(tmp_path / "s")
    with pytest.raises(ValueError, match=r"every one of 1 rows.*b: failed: gone"):
        update_store(tmp_path / "s", SPEC, [("b", "k")], lambda ids: ((i, OSError("gone")) for i in ids), 4)
    assert contents(tmp_path / "s") == before


def test_an_empty_store_can_be_read(tmp_path: Path) -> None:
    update(tmp_path / "s", {})
    store = FeatureStore.open(tmp_path / "s")
    assert len(store) == 0 and store.take(np.zeros(0, np.int64))[0].shape == (0, 4, 3)
    with pytest.raises(IndexError):
        store.take(np.zeros(1, np.int64))


def test_unknown_and_repeated_clips_are_named(tmp_path: Path) -> None:
    update(tmp_path / "s", {"a": "k"})
    with pytest.raises(ValueError, match="no features of clip 'ghost'"):
        FeatureStore.open(tmp_path / "s").gather(["a", "ghost"])
    with pytest.raises(ValueError, match="'a' stands twice"):
        update_store(tmp_path / "s", SPEC, [("a", "k"), ("a", "k")], lambda ids: iter([]), 4)


@pytest.mark.parametrize("damage", ["cut", "shape", "dtype", "gone", "noise"])
def test_a_damaged_shard_is_named_and_computed_again(tmp_path: Path, damage: str) -> None:
    rows = {f"c{n}": "k" for n in range(7)}
    update(tmp_path / "s", rows)
    good = contents(tmp_path / "s")
    shard = tmp_path / "s" / "shard-00000.npy"
    match damage:
        case "cut":
            shard.write_bytes(shard.read_bytes()[:-5])
        case "shape":
            np.save(shard, np.zeros((2, 4, 3), np.float16))
        case "dtype":
            np.save(shard, np.zeros((7, 4, 3), np.float32))
        case "gone":
            shard.unlink()
        case _:
            shard.write_bytes(b"not numpy")
    with pytest.raises(ValueError, match=r"shard-00000\.npy"):
        FeatureStore.open(tmp_path / "s")
    report = update(tmp_path / "s", rows)
    assert (report.computed, report.kept) == (7, 0)
    assert contents(tmp_path / "s") == good


def test_a_flipped_bit_is_not_carried_along(tmp_path: Path) -> None:
    rows = {f"c{n}": "k" for n in range(4)}
    update(tmp_path / "s", rows)
    good = contents(tmp_path / "s")
    shard = tmp_path / "s" / "shard-00000.npy"
    data = bytearray(shard.read_bytes())
    data[-1] ^= 1
    shard.write_bytes(data)
    assert update(tmp_path / "s", rows).computed == 4
    assert contents(tmp_path / "s") == good


@pytest.mark.parametrize("name", ["spec.json", "index.parquet"])
def test_a_damaged_head_is_named_and_the_store_made_again(tmp_path: Path, name: str) -> None:
    update(tmp_path / "s", {"a": "k"})
    good = contents(tmp_path / "s")
    (tmp_path / "s" / name).write_bytes(b"{}")
    with pytest.raises(ValueError, match=name.replace(".", r"\.")):
        FeatureStore.open(tmp_path / "s")
    assert update(tmp_path / "s", {"a": "k"}).computed == 1
    assert contents(tmp_path / "s") == good


SLOW = """
import sys, time
from pathlib import Path
import numpy as np
from components.increments import update_store
def compute(ids):
    for clip_id in ids:
        time.sleep(0.02)
        yield clip_id, np.full((1, 3), int(clip_id[1:]), np.float32)
rows = [(f"c{n:03d}", "k") for n in range(40)]
spec = {"modality": "music", "kind": "test", "dims": 3, "max_segments": 4}
print(update_store(Path(sys.argv[1]), spec, rows, compute, 16, flush_s=0.0))
"""


def test_a_killed_run_keeps_its_finished_rows_and_ends_with_the_same_bytes(tmp_path: Path) -> None:
    def start(folder: Path) -> subprocess.Popen[str]:
        command = [sys.executable, "-c", textwrap.dedent(SLOW), str(folder)]
        return subprocess.Popen(command, stdout=subprocess.PIPE, text=True, start_new_session=True)

    stopped = start(tmp_path / "s")
    partial = tmp_path / "s.partial"
    deadline = time.monotonic() + 60
    while len(list(partial.glob("part-*.json"))) < 10:
        assert time.monotonic() < deadline and stopped.poll() is None
        time.sleep(0.01)
    os.killpg(stopped.pid, signal.SIGKILL)
    stopped.communicate()
    finished = sum(len(json.loads(path.read_text())["rows"]) for path in partial.glob("part-*.json"))
    assert 10 <= finished < 40 and not (tmp_path / "s").exists()

    output, _ = start(tmp_path / "s").communicate(timeout=60)
    assert output.split(",")[1:3] == [f" {40 - finished} computed", f" {finished} kept"]
    assert not partial.exists()
    start(tmp_path / "scratch").communicate(timeout=60)
    assert contents(tmp_path / "s") == contents(tmp_path / "scratch")


GROW = """
import shutil
import sys
from pathlib import Path
import numpy as np
from components import stage
from components.increments import update_store
from components.store import FeatureStore
from tests.killed import at_every_step

store, asked = Path(sys.argv[1]) / "s", []
if sys.argv[2] == "aside":
    stage._exchange = lambda one, other: False
spec = {"modality": "music", "kind": "test", "dims": 3, "max_segments": 4}

def grow(*ids):
    def compute(wanted):
        asked.extend(wanted)
        yield from ((clip_id, np.full((1, 3), ord(clip_id), np.float32)) for clip_id in wanted)
    update_store(store, spec, [(clip_id, "k") for clip_id in ids], compute, 16, flush_s=0.0)

grow("a", "b")
shutil.copytree(store, store.with_name("before"))
for step in at_every_step(lambda: grow("a", "b", "c")):
    asked.clear()
    if sys.argv[2] == "swap":
        assert FeatureStore.open(store).clip_ids in (["a", "b"], ["a", "b", "c"]), step
    stage._cleared.clear()  # as a process that starts now
    grow("a", "b", "c")
    assert set(asked) <= {"c"}, (step, asked)
    opened = FeatureStore.open(store)
    assert opened.clip_ids == ["a", "b", "c"] and opened.gather(["b"])[0][0, 0, 0] == ord("b"), step
    assert sorted(path.name for path in store.parent.iterdir()) == ["before", "s"], step
    shutil.rmtree(store)
    shutil.copytree(store.with_name("before"), store)
print(step)
"""


@pytest.mark.parametrize("way", ["swap", "aside"])
def test_a_kill_at_any_step_computes_no_finished_row_again(tmp_path: Path, way: str) -> None:
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[1])}
    done = subprocess.run(
        [sys.executable, "-c", GROW, tmp_path, way], env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) > 20
