"""What a version learnt from, told from the clips that its run keeps."""

from flows.release.clips import learnt_from


def clip(clip_id: str, split: str, track: str | None = None, file: str = "") -> dict[str, str | None]:
    return {"clip_id": clip_id, "split": split, "track_id": track, "sha256": file or f"file of {clip_id}"}


def test_a_clip_was_learnt_from_when_its_id_its_track_or_its_file_was() -> None:
    seen = [
        clip("a", "train", "t1"), clip("b", "val", "t2"), clip("c", "test", "t3"), clip("s", "seed", "t4"),
        clip("d", "train", None, "one file"), clip("b again", "train", "t2"),
    ]  # fmt: skip
    today = [
        clip("a", "test", "another"), clip("x", "test", "t1"), clip("y", "test", "t2"), clip("c", "test", "t3"),
        clip("z", "test", "t4"), clip("w", "test", None, "one file"), clip("v", "test", None),
    ]  # fmt: skip
    # c was tested on, z is of the tagger's library, v is new: none of them taught the model anything.
    assert learnt_from(seen, today) == {"a": "train", "x": "train", "y": "train", "w": "train"}
    assert learnt_from(seen[:5], today)["y"] == "val"
    assert learnt_from([], today) == {}
