"""An S3 bucket seen as a listing, and the client for it. Endpoint and credentials: AWS_* variables only."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import PurePosixPath
from typing import Any, Final

from components.corpus.params import S3Corpus

RESERVED: Final = ("files.json", ".parts")  # names this component uses inside the media folder
_LONGEST: Final = 255  # bytes of a file name


def connect(params: S3Corpus) -> Any:
    """Return a boto3 S3 client that retries throttling and broken connections by itself."""
    import boto3
    from botocore.config import Config

    config = Config(
        retries={"mode": "standard", "max_attempts": params.attempts},
        connect_timeout=10,
        read_timeout=60,
        max_pool_connections=params.workers,
    )
    return boto3.Session().client("s3", config=config)


def root_of(params: S3Corpus) -> str:
    """Return the address of the corpus, as listings and messages show it."""
    return f"s3://{params.bucket}/{params.prefix}"


def list_bucket(params: S3Corpus) -> dict[str, Any]:
    """List the objects below the prefix; the same form as ``listing.list_folder``, ETags for fingerprints.

    Raises:
        ValueError: no access, no such bucket, the endpoint does not answer, or nothing below the prefix.
    """
    files: list[dict[str, Any]] = []
    refused: list[dict[str, str]] = []
    with told(params, "list"):
        pages = connect(params).get_paginator("list_objects_v2").paginate(Bucket=params.bucket, Prefix=params.prefix)
        objects = sorted((o for page in pages for o in page.get("Contents", [])), key=lambda o: str(o["Key"]))
    names = {str(o["Key"]) for o in objects}
    for item in objects:
        key = str(item["Key"])
        if key.endswith("/") and item["Size"] == 0:
            continue  # a console's marker of an empty folder
        problem = unsafe(key, names)
        if problem:
            shown = key.encode("unicode_escape").decode()
            refused.append({"path": shown, "reason": "unsafe_key", "detail": problem})
        else:
            files.append({"path": key, "bytes": int(item["Size"]), "fingerprint": str(item["ETag"]).strip('"')})
    if not files and not refused:
        raise ValueError(f"corpus.prefix: nothing below {root_of(params)}")
    return {"kind": "s3", "root": root_of(params), "files": files, "refused": refused}


def unsafe(key: str, names: set[str]) -> str | None:
    """Tell why ``key`` cannot be a file's path here; None where it can."""
    parts = key.split("/")
    if key.startswith("/") or ".." in parts or "." in parts:
        return "the key would lead out of the media folder"
    if "" in parts:
        return "the key has an empty part"
    if not key.isprintable():
        return "the key has control characters"
    if parts[0] in RESERVED:
        return f"'{parts[0]}' is reserved here"
    if any(len(part.encode()) > _LONGEST for part in parts):
        return f"a part of the key is longer than {_LONGEST} bytes"
    if any(str(parent) in names for parent in PurePosixPath(key).parents):
        return "another object's key is a folder of this one"
    return None


@contextmanager
def told(params: S3Corpus, doing: str) -> Iterator[None]:
    """Turn what boto3 raises within the block into one line for the user; ``doing`` says what was tried."""
    from botocore.exceptions import BotoCoreError, ClientError, NoCredentialsError

    what = f"cannot {doing} {root_of(params)}"
    try:
        yield
    except NoCredentialsError:
        raise ValueError(f"{what}: no credentials; set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY") from None
    except ClientError as error:
        answer = error.response.get("Error", {})
        raise ValueError(f"{what}: {answer.get('Code', 'error')}: {answer.get('Message', '')}".rstrip(": ")) from None
    except BotoCoreError as error:
        raise ValueError(f"{what}: {' '.join(str(error).split())}") from None
