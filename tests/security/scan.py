"""Looks for secrets wherever the platform keeps something: databases, buckets, files, logs."""

from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any

_BIG = 64 * 2**20  # media and features are computed from files; what people and servers write is small


def in_databases(urls: Collection[str], secrets: Collection[str]) -> Iterator[str]:
    """Rows of any table of PostgreSQL databases that hold a secret, in whatever column."""
    from sqlalchemy import create_engine, text

    for url in urls:
        with create_engine(url).connect() as connection:
            tables = connection.execute(text("select tablename from pg_tables where schemaname = 'public'")).scalars()
            for table in tables.all():
                for row in connection.execute(text(f'select t::text from "{table}" t')).scalars():  # noqa: S608
                    for secret in secrets:
                        if secret in row:
                            yield f"table {table}: {_around(row, secret)}"


def in_buckets(client: Any, buckets: Collection[str], secrets: Collection[str]) -> Iterator[str]:
    """Objects that hold a secret, in their names or bytes."""
    for bucket in buckets:
        for page in client.get_paginator("list_objects_v2").paginate(Bucket=bucket):
            for item in page.get("Contents", ()):
                body = client.get_object(Bucket=bucket, Key=item["Key"])["Body"].read()
                if any(secret.encode() in body or secret in item["Key"] for secret in secrets):
                    yield f"s3://{bucket}/{item['Key']}"


def in_files(folder: Path, secrets: Collection[str], private: Collection[str] = ()) -> Iterator[str]:
    """Files below a folder that hold a secret; those named `private` are made for that."""
    for path in sorted(folder.rglob("*")):
        name = str(path.relative_to(folder))
        if name.startswith(tuple(private)) or path.is_symlink() or not path.is_file() or path.stat().st_size > _BIG:
            continue
        body = path.read_bytes()
        if any(secret.encode() in body for secret in secrets):
            yield name


def _around(text: str, secret: str) -> str:
    at = text.index(secret)
    return text[max(0, at - 60) : at] + "***"
