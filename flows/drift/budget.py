"""Which drift may start a retrain: once per manifest, so many a week, so far apart. Rows of the ledger."""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final

from sqlalchemy import Column, Integer, Table, Text, delete, insert, select, update
from sqlalchemy.engine import Connection

from flows.drift.settings import Retrains
from flows.ledger.database import TABLES
from flows.release import releases

TRIGGERS: Final = Table(
    "drift_triggers",
    TABLES,
    Column("key", Text, primary_key=True),  # digest of the manifest: the same media never start two
    Column("champion", Integer, nullable=False),
    Column("at", Text, nullable=False),
    Column("run", Text),  # flow run that was started; null while that is being asked for
)
_WEEK = timedelta(days=7)
_AHEAD = timedelta(hours=1)
"""A time that lies further ahead was written by a clock that was wrong; it would hold up all others until then."""


@dataclass(frozen=True)
class Claim:
    """Whether a retrain should start.

    Attributes:
        start: it should, and nobody else will start it.
        why: in words.
    """

    start: bool
    why: str


def claim(
    connection: Connection, key: str, champion: int, limits: Retrains, now: datetime, record: bool = True
) -> Claim:
    """Claim the retrain for the manifest `key`, if it is due.

    A claim without a run is one whose start was cut off. It may be made again: Prefect knows the key and
    does not start a second run for it.

    Args:
        connection: inside `ledger.transaction`, so that two monitors do not both start.
        key: digest of the manifest.
        champion: version that the media were compared with.
        limits: budget.
        now: with a time zone.
        record: write the claim; without it only say what would be.
    """
    row = connection.execute(select(TRIGGERS).where(TRIGGERS.c.key == key)).first()
    if row is not None and row.run is not None:
        return Claim(False, f"these media have started a retrain already (at {row.at}, run {row.run})")
    made = [release.version for release in releases.all_releases(connection) if release.manifest == key]
    if made:
        return Claim(False, f"version {made[-1]} has been trained on these media already")
    times = [
        datetime.fromisoformat(at) for at in connection.scalars(select(TRIGGERS.c.at).where(TRIGGERS.c.key != key))
    ]
    times = [time for time in times if time - now <= _AHEAD]
    recent = sorted(time for time in times if now - time < _WEEK)
    if len(recent) >= limits.per_week:
        again = f"; the next may start at {_text(recent[-limits.per_week] + _WEEK)}" if limits.per_week else ""
        return Claim(
            False, f"drift has started {len(recent)} retrains within seven days, {limits.per_week} are allowed{again}"
        )
    free = max(times, default=now - _WEEK) + timedelta(hours=limits.apart_h)
    if now < free:
        return Claim(False, f"the last retrain that drift started is too recent; the next may start at {_text(free)}")
    if record:
        release_claim(connection, key)
        connection.execute(insert(TRIGGERS).values(key=key, champion=champion, at=_text(now)))
    return Claim(True, "new media, and the budget allows it")


def confirm(connection: Connection, key: str, run: str) -> None:
    """Note the run that was started for a claim: it is spent."""
    connection.execute(update(TRIGGERS).where(TRIGGERS.c.key == key).values(run=run))


def release_claim(connection: Connection, key: str) -> None:
    """Give back a claim for which nothing was started."""
    connection.execute(delete(TRIGGERS).where(TRIGGERS.c.key == key, TRIGGERS.c.run.is_(None)))


def _text(time: datetime) -> str:
    return time.astimezone(UTC).isoformat(timespec="seconds")
