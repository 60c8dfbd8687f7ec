"""A corpus that is fetched from a bucket: resumed, checksummed, retried, never fetched twice."""

import base64
import hashlib
import logging
import os
import re
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path
from typing import Any, Final

from components import stage
from components.corpus.bucket import connect, root_of, told
from components.corpus.collected import Collected, truth_table
from components.corpus.companions import annotations_bytes, bring_seed_library
from components.corpus.folder import read_listing, refusals
from components.corpus.ledger import Ledger
from components.corpus.params import S3Corpus
from components.stage import own_file

log = logging.getLogger(__name__)

_PIECE: Final = 1 << 20  # bytes read at a time
_REMEMBER: Final = 32  # files between two writes of the ledger
_STALE: Final = ("PreconditionFailed", "412", "NoSuchKey", "404")


class Damaged(Exception):
    """The body broke off or does not match its checksum; worth another attempt."""


def fetch_bucket(params: S3Corpus, source: Path, media: Path, seed: Path) -> Collected:
    """Fetch what is missing of a listed bucket into ``media`` and return the tables.

    Raises:
        ValueError: the listing is of another bucket, an object changed since, or stayed broken
            after ``attempts``; what was fetched is kept for the next run.
    """
    listing = read_listing(source, "s3", root_of(params))
    _fetch_missing(params, listing["files"], media)
    tags, refused = bring_seed_library(params, seed)
    return Collected(
        inventory=[
            {
                "uri": (media / entry["path"]).as_posix(),
                "fingerprint": entry["fingerprint"],
                "licence": params.licence,
                "source": f"s3://{params.bucket}",
            }
            for entry in listing["files"]
        ],
        annotations=annotations_bytes(params),
        seed_tags=tags,
        truth=truth_table([]),
        refused=[*refused, *refusals(listing, f"s3://{params.bucket}")],
    )


def _fetch_missing(params: S3Corpus, entries: list[dict[str, Any]], media: Path) -> None:
    ledger = Ledger(media)
    missing = [entry for entry in entries if not ledger.has(entry["path"], entry["fingerprint"])]
    ledger.keep_only([*(entry["path"] for entry in entries), *(_part_name(entry) for entry in missing)])
    done: list[tuple[str, str]] = []
    try:
        for entry in stage.progress(_fetch_all(params, missing, media), "corpus s3", len(missing)):
            done.append((entry["path"], entry["fingerprint"]))
            if len(done) == _REMEMBER:
                ledger.add(done)
                done = []
    finally:
        ledger.add(done)
    ledger.keep_only(entry["path"] for entry in entries)
    log.info("corpus s3: %d files, %d fetched, %d kept", len(entries), len(missing), len(entries) - len(missing))


def _fetch_all(params: S3Corpus, entries: list[dict[str, Any]], media: Path) -> Iterator[dict[str, Any]]:
    client = connect(params)
    with ThreadPoolExecutor(params.workers) as pool:
        try:
            for done in as_completed([pool.submit(_fetch, client, params, entry, media) for entry in entries]):
                yield done.result()
        finally:
            pool.shutdown(wait=True, cancel_futures=True)


def _part_name(entry: dict[str, Any]) -> str:
    """Name the unfinished file after key and ETag, so that a changed object never continues an old body."""
    name = hashlib.sha256(f"{entry['path']}\n{entry['fingerprint']}".encode()).hexdigest()
    return f".parts/{name[:32]}"


def _fetch(client: Any, params: S3Corpus, entry: dict[str, Any], media: Path) -> dict[str, Any]:
    """Fetch one object, continuing where the last attempt or run stopped, and publish it when whole."""
    from botocore.exceptions import BotoCoreError, ClientError, ReadTimeoutError

    part, target = media / _part_name(entry), media / entry["path"]
    part.parent.mkdir(parents=True, exist_ok=True)
    target.parent.mkdir(parents=True, exist_ok=True)
    doing = f"fetch '{entry['path']}' of"
    for attempt in range(1, params.attempts + 1):
        try:
            check = _continue_body(client, params.bucket, entry, part)
            _require_whole(part, entry, check)
            os.replace(part, target)  # noqa: PTH105
            return entry
        except ClientError as error:
            if error.response.get("Error", {}).get("Code") in _STALE:
                raise ValueError(
                    f"'{entry['path']}' changed in {root_of(params)} since it was listed; run again"
                ) from None
            problem: Exception = error
        except (Damaged, BotoCoreError, ReadTimeoutError, ConnectionError, TimeoutError) as error:
            problem = error
        if attempt < params.attempts:
            log.warning("corpus s3: '%s': %s; attempt %d of %d", entry["path"], problem, attempt + 1, params.attempts)
            time.sleep(params.backoff_s * 2 ** (attempt - 1))
    if isinstance(problem, Damaged):
        raise ValueError(f"cannot {doing} {root_of(params)}: {problem} ({params.attempts} attempts)")
    with told(params, doing):
        raise problem
    raise AssertionError("told() raises")


def _continue_body(client: Any, bucket: str, entry: dict[str, Any], part: Path) -> dict[str, Any]:
    """Append what is missing to ``part``; returns the answer's headers that say how to check it."""
    from botocore.exceptions import FlexibleChecksumError, IncompleteReadError, ResponseStreamingError

    have = part.stat().st_size if part.exists() else 0
    if have >= entry["bytes"] and have:
        part.unlink()  # whole, yet not published: it failed its check or was cut off before it
        have = 0
    span = {"Range": f"bytes={have}-"} if have else {}
    answer = client.get_object(Bucket=bucket, Key=entry["path"], IfMatch=f'"{entry["fingerprint"]}"', **span)
    continued = answer["ResponseMetadata"]["HTTPStatusCode"] == 206
    own_file(part)
    try:
        with part.open("ab" if continued else "wb") as out:
            while piece := answer["Body"].read(_PIECE):
                out.write(piece)
            out.flush()
            os.fsync(out.fileno())
    except FlexibleChecksumError as error:
        part.unlink()
        raise Damaged(f"wrong checksum: {error}") from None
    except (IncompleteReadError, ResponseStreamingError) as error:
        raise Damaged(f"the body broke off: {' '.join(str(error).split())}") from None
    finally:
        answer["Body"].close()
    return dict(answer)


def _require_whole(part: Path, entry: dict[str, Any], answer: dict[str, Any]) -> None:
    size = part.stat().st_size
    if size < entry["bytes"]:
        raise Damaged(f"the body broke off after {size} of {entry['bytes']} bytes")
    # An ETag is the content's MD5 unless the object came in parts or is encrypted with a managed key.
    plain = re.fullmatch(r"[0-9a-f]{32}", entry["fingerprint"]) and not (
        str(answer.get("ServerSideEncryption", "")).startswith("aws:kms") or answer.get("SSECustomerAlgorithm")
    )
    sha256 = str(answer.get("ChecksumSHA256", ""))
    whole_sha256 = bool(sha256) and "-" not in sha256 and answer.get("ChecksumType") != "COMPOSITE"
    wrong = size > entry["bytes"]
    if plain and not wrong:
        wrong = _digest(part, "md5").hex() != entry["fingerprint"]
    if whole_sha256 and not wrong:
        wrong = base64.b64encode(_digest(part, "sha256")).decode() != sha256
    if wrong:
        part.unlink()
        raise Damaged("the content does not match its checksum")


def _digest(path: Path, name: str) -> bytes:
    with path.open("rb") as handle:
        return hashlib.file_digest(handle, lambda: hashlib.new(name, usedforsecurity=False)).digest()
