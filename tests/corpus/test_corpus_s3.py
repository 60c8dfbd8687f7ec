"""Buckets, against a real socket: resumed, checksummed, retried, never fetched twice, never outside."""

import base64
import errno
import hashlib
import json
import runpy
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from components.corpus import s3
from components.corpus.build import build_corpus
from components.corpus.collected import Collected
from components.corpus.listing import observe
from components.corpus.params import S3Corpus

look_alike = runpy.run_path(str(Path(__file__).with_name("s3_look_alike.py")))
CONTENT = bytes(range(256)) * 40


@pytest.fixture
def bucket(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    content = {f"clips/{number}.mp4": CONTENT + bytes([number]) for number in range(5)}
    with look_alike["served"](look_alike["Bucket"](objects={**content, "other/x.mp4": b"x"})) as served:
        monkeypatch.setenv("AWS_ENDPOINT_URL", served.endpoint)
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", "someone")
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
        monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
        monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
        yield served


@pytest.fixture
def fetch(tmp_path: Path, bucket: Any) -> Callable[..., Collected]:
    tags = tmp_path / "seed_tags.csv"
    tags.write_text("path,group,name\n")

    def run(look: bool = True, **changes: Any) -> Collected:
        section = make(tmp_path, **changes)
        if look:
            observe(section)
        return build_corpus(section, Path(section.source), tmp_path / "media", tmp_path / "seed")

    return run


def make(folder: Path, **changes: Any) -> S3Corpus:
    fields = {"kind": "s3", "bucket": "music", "prefix": "clips/", "attempts": 3, "backoff_s": 0.0, "licence": None}
    fields |= {"source": str(folder / "listing.json"), "annotations": None, "seed_tags": str(folder / "seed_tags.csv")}
    return S3Corpus.model_validate({**fields, "seed": 1, "seed_clips": 20, "clip_s": 4.0, "workers": 2, **changes})


def media(tmp_path: Path) -> dict[str, bytes]:
    folder = tmp_path / "media"
    found = {path.relative_to(folder).as_posix(): path for path in folder.rglob("*") if path.is_file()}
    return {name: path.read_bytes() for name, path in found.items() if name != "files.json"}


def clips(bucket: Any) -> dict[str, bytes]:
    return {key: body for key, body in bucket.objects.items() if key.startswith("clips/")}


def test_what_is_below_the_prefix_arrives_and_is_never_fetched_again(
    bucket: Any, fetch: Callable[..., Collected], tmp_path: Path
) -> None:
    bucket.page = 2  # three pages
    corpus = fetch()
    assert media(tmp_path) == clips(bucket)
    assert [row["uri"] for row in corpus.inventory] == [str(tmp_path / "media" / key) for key in sorted(clips(bucket))]
    assert corpus.inventory[0]["fingerprint"] == bucket.etag("clips/0.mp4")
    assert len(bucket.asked) == 5
    fetch()
    assert len(bucket.asked) == 5


def test_only_what_changed_is_fetched_and_what_is_gone_is_removed(
    bucket: Any, fetch: Callable[..., Collected], tmp_path: Path
) -> None:
    fetch()
    bucket.asked.clear()
    bucket.objects["clips/1.mp4"] = b"another"
    del bucket.objects["clips/2.mp4"]
    (tmp_path / "media" / "clips" / "3.mp4").write_bytes(b"cut")
    fetch()
    assert sorted(key for key, _ in bucket.asked) == ["clips/1.mp4", "clips/3.mp4"]
    assert media(tmp_path) == clips(bucket)


def test_a_broken_body_is_continued_not_begun_again(
    bucket: Any, fetch: Callable[..., Collected], tmp_path: Path
) -> None:
    bucket.faults["clips/3.mp4"] = ["cut"]
    fetch()
    assert media(tmp_path) == clips(bucket)
    assert [span for key, span in bucket.asked if key == "clips/3.mp4"] == [None, f"bytes={len(CONTENT + b'3') // 2}-"]


def test_a_later_run_continues_where_the_last_one_gave_up(
    bucket: Any, fetch: Callable[..., Collected], tmp_path: Path
) -> None:
    bucket.faults["clips/3.mp4"] = ["cut"]
    with pytest.raises(ValueError, match=r"cannot fetch 'clips/3\.mp4' of s3://music/clips/: the body broke off"):
        fetch(attempts=1)
    assert "clips/3.mp4" not in media(tmp_path)
    (half,) = (path for path in tmp_path.rglob(".parts/*"))
    other = tmp_path / "a second name of it, in another workspace"
    other.hardlink_to(half)
    bucket.asked.clear()
    fetch(attempts=1)
    assert dict(bucket.asked)["clips/3.mp4"] == f"bytes={len(CONTENT + b'3') // 2}-"
    assert media(tmp_path) == clips(bucket)
    assert other.stat().st_size == len(CONTENT + b"3") // 2


def test_a_changed_object_never_continues_the_old_body(
    bucket: Any, fetch: Callable[..., Collected], tmp_path: Path
) -> None:
    bucket.faults["clips/3.mp4"] = ["cut"]
    with pytest.raises(ValueError, match="broke off"):
        fetch(attempts=1)
    bucket.objects["clips/3.mp4"] = b"n" * len(CONTENT)
    with pytest.raises(ValueError, match=r"'clips/3\.mp4' changed in s3://music/clips/ since it was listed"):
        fetch(look=False)
    fetch()
    assert media(tmp_path) == clips(bucket)


def test_a_server_without_ranges_is_read_from_the_start(
    bucket: Any, fetch: Callable[..., Collected], tmp_path: Path
) -> None:
    bucket.faults["clips/3.mp4"] = ["cut", "whole"]
    fetch()
    assert media(tmp_path) == clips(bucket)


def test_server_errors_are_retried(bucket: Any, fetch: Callable[..., Collected], tmp_path: Path) -> None:
    bucket.faults["clips/0.mp4"] = ["500"]
    fetch()
    assert media(tmp_path) == clips(bucket)


@pytest.mark.parametrize("checked_by", ["md5", "sha256"])
def test_a_wrong_content_is_fetched_again_and_never_published(
    bucket: Any, fetch: Callable[..., Collected], tmp_path: Path, checked_by: str
) -> None:
    if checked_by == "sha256":  # an object that came in parts: its ETag is no digest of the content
        digest = base64.b64encode(hashlib.sha256(bucket.objects["clips/0.mp4"]).digest()).decode()
        bucket.etags["clips/0.mp4"] = "0123456789abcdef0123456789abcdef-2"
        bucket.headers["clips/0.mp4"] = {"x-amz-checksum-sha256": digest, "x-amz-checksum-type": "FULL_OBJECT"}
    bucket.faults["clips/0.mp4"] = ["garble"]
    fetch()
    assert media(tmp_path) == clips(bucket)


def test_a_content_that_stays_wrong_stops_the_run_and_is_never_published(
    bucket: Any, fetch: Callable[..., Collected], tmp_path: Path
) -> None:
    bucket.faults["clips/0.mp4"] = ["garble"] * 9
    with pytest.raises(ValueError, match=r"'clips/0\.mp4'.*does not match its checksum \(3 attempts\)"):
        fetch()
    assert "clips/0.mp4" not in media(tmp_path)


def test_an_encrypted_objects_etag_is_not_taken_for_a_digest(
    bucket: Any, fetch: Callable[..., Collected], tmp_path: Path
) -> None:
    bucket.etags["clips/0.mp4"] = "f" * 32
    bucket.headers["clips/0.mp4"] = {"x-amz-server-side-encryption": "aws:kms"}
    fetch()
    assert media(tmp_path) == clips(bucket)


def test_unsafe_keys_are_refused_by_name(bucket: Any, fetch: Callable[..., Collected], tmp_path: Path) -> None:
    unsafe = [
        "clips/../../out.mp4",
        "clips//double.mp4",
        "clips/tab\there.mp4",
        "clips/0.mp4/below.mp4",
        "clips/./x.mp4",
    ]
    fine = ["clips/spaced name.mp4", "clips/-rf.mp4", "clips/音楽.mp4", "clips/a+b&c=d%20.mp4", "clips/empty.mp4"]
    for key in [*unsafe, *fine]:
        bucket.objects[key] = b"" if "empty" in key else key.encode()
    bucket.objects["clips/folder/"] = b""
    corpus = fetch()
    assert {row["uri"] for row in corpus.refused} == {
        f"s3://music/{key.encode('unicode_escape').decode()}" for key in unsafe
    }
    assert {row["reason"] for row in corpus.refused} == {"unsafe_key"}
    wanted = {key: body for key, body in clips(bucket).items() if key not in unsafe and not key.endswith("/")}
    assert media(tmp_path) == wanted
    assert not (tmp_path / "out.mp4").exists()


def test_a_full_disk_leaves_nothing_half_published(
    bucket: Any, fetch: Callable[..., Collected], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(path: Path, *_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device", str(path))

    with monkeypatch.context() as patch:
        patch.setattr(s3, "_require_whole", full)
        with pytest.raises(OSError, match="No space left"):
            fetch()
    assert not any(name.startswith("clips/") for name in media(tmp_path))
    fetch()
    assert media(tmp_path) == clips(bucket)


def test_what_is_wrong_with_the_bucket_is_said_in_one_line(
    bucket: Any, fetch: Callable[..., Collected], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(ValueError, match=r"cannot list s3://nothing/clips/: NoSuchBucket"):
        observe(make(tmp_path, bucket="nothing"))
    with pytest.raises(ValueError, match=r"corpus\.prefix: nothing below s3://music/none/"):
        observe(make(tmp_path, prefix="none/"))
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    with pytest.raises(ValueError, match=r"cannot list s3://music/clips/: Could not connect") as told:
        observe(make(tmp_path, attempts=1))
    assert "\n" not in str(told.value) and "secret" not in str(told.value)
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "none"))
    with pytest.raises(ValueError, match="no credentials; set AWS_ACCESS_KEY_ID"):
        observe(make(tmp_path))


def test_a_listing_of_another_bucket_is_refused(bucket: Any, fetch: Callable[..., Collected], tmp_path: Path) -> None:
    fetch()
    with pytest.raises(ValueError, match="lists s3://music/clips/, not s3://music/other/"):
        fetch(look=False, prefix="other/")
    assert json.loads((tmp_path / "listing.json").read_text())["kind"] == "s3"
