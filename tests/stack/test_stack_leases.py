"""Leases on PostgreSQL: never two at work, whatever a network, a server, a clock or a machine does meanwhile.

`NEEDLEDROP_SILENCES` says how many trials behind a silent network, `NEEDLEDROP_SILENCES_SEED` which moments.
"""

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from sqlalchemy import create_engine, text

from flows.environment import Environment
from flows.ledger.database import reading, transaction
from flows.ledger.lease import Leased, free_dead, lease, leases
from flows.workspace.platform import Platform
from flows.workspace.workspace import Workspace
from infra.state import State
from tests.stack.commands import away, until
from tests.stack.fault_proxy import SilentProxy

pytestmark = [pytest.mark.stack, pytest.mark.timeout(1800)]

ROOT = Path(__file__).parents[2]
TRIALS = int(os.environ.get("NEEDLEDROP_SILENCES", "3"))
SEED = int(os.environ.get("NEEDLEDROP_SILENCES_SEED", "7"))
SECONDS = 8.0

# Works under the lease again and again until its standard input ends; each moment of work is a line of the log.
WORKER = """
import os, sys, threading, time
from pathlib import Path
from flows.environment import Environment
from flows.errors import Refusal
from flows.ledger.database import transaction
from flows.ledger.lease import LeaseLost, check, lease
from flows.workspace.platform import Platform
from flows.workspace.workspace import Workspace
who, url, root, seconds, work_s, how = sys.argv[1:]
if how == "with a clock that jumps":
    whole, jumps = time.time, [0.0, 7200.0, -7200.0]
    time.time = lambda: whole() + jumps[int(time.monotonic() * 20) % 3]
log = os.open(Path(root) / "log", os.O_WRONLY | os.O_APPEND | os.O_CREAT)
stop = threading.Event()
threading.Thread(target=lambda: (sys.stdin.read(), stop.set()), daemon=True).start()
platform = Platform(Workspace(Path(root)), Environment(ledger_url=url))

def say(what):
    os.write(log, f"{who} {what} {time.monotonic():.6f}\\n".encode())

while not stop.is_set():
    try:
        with lease(platform, "trial", float(seconds), wait_s=2.0, run=who):
            end, number = time.monotonic() + float(work_s), 0
            while time.monotonic() < end and not stop.is_set():
                say("works")
                time.sleep(0.01)
                number += 1
                if how == "asks nothing":
                    continue
                if number % 40 == 0:
                    check()
                    say("does")
                if number % 55 == 0:
                    with transaction(platform) as connection:
                        connection.exec_driver_sql("INSERT INTO effects VALUES (%s)", (who,))
                        say("works")
        say("ends")
        time.sleep(1.5)  # longer than it takes one who waits to look again
    except LeaseLost:
        say("lost")
    except Refusal as error:
        time.sleep(0.1)
"""


@dataclass(frozen=True)
class Moment:
    """One line of the log."""

    who: str
    what: str
    at: float


@pytest.fixture
def platform(stack: State, tmp_path: Path) -> Platform:
    """The stack's ledger, with a table for what is done there."""
    made = Platform(Workspace(tmp_path), Environment(ledger_url=stack.exports()["NEEDLEDROP_LEDGER_URL"]))
    with transaction(made) as connection:
        connection.exec_driver_sql("CREATE TABLE IF NOT EXISTS effects (who text)")
        connection.exec_driver_sql("DELETE FROM effects")
        connection.exec_driver_sql("DELETE FROM leases WHERE name = 'trial'")
    return made


@pytest.fixture
def proxy(stack: State) -> Iterator[SilentProxy]:
    with SilentProxy("127.0.0.1", stack.ports.postgres) as made:
        yield made


Start = Callable[..., "subprocess.Popen[bytes]"]


@pytest.fixture
def start(platform: Platform, stack: State) -> Iterator[Start]:
    """Start a worker; all are killed at the end."""
    started = []

    def one(
        who: str, proxy: SilentProxy | None = None, seconds: float = SECONDS, work_s: float = 3600.0, how: str = ""
    ) -> "subprocess.Popen[bytes]":
        url = platform.ledger_url
        if proxy is not None:
            url = url.replace(f":{stack.ports.postgres}/", f":{proxy.port}/")
        words = [sys.executable, "-c", WORKER, who, url, str(platform.workspace.root), str(seconds), str(work_s), how]
        rest = {name: value for name, value in os.environ.items() if not name.startswith("NEEDLEDROP_")}
        started.append(subprocess.Popen(words, env=rest | {"PYTHONPATH": str(ROOT)}, stdin=subprocess.PIPE))
        return started[-1]

    yield one
    for process in started:
        process.kill()
        process.wait()
        if process.stdin:
            process.stdin.close()


def log(platform: Platform) -> list[Moment]:
    path = platform.workspace.root / "log"
    lines = path.read_text().splitlines() if path.exists() else []
    return [Moment(who, what, float(at)) for who, what, at in (line.split() for line in lines)]


def works(platform: Platform, who: str, since: float = 0.0) -> bool:
    return any(one.who == who and one.what == "works" and one.at > since for one in log(platform))


def shifts(moments: list[Moment]) -> list[Moment]:
    """The first and the last moment of each stretch of work by one, in the order of time."""
    at_work = sorted((one for one in moments if one.what in ("works", "does")), key=lambda one: one.at)
    found: list[Moment] = []
    for before, one, after in zip([None, *at_work], at_work, [*at_work[1:], None], strict=False):
        if before is None or before.who != one.who or after is None or after.who != one.who:
            found.append(one)
    return found


def changes(moments: list[Moment]) -> list[str]:
    """Who was at work, one after the other."""
    names = [one.who for one in shifts(moments)]
    return [name for number, name in enumerate(names) if number == 0 or names[number - 1] != name]


def test_two_behind_a_silent_network_are_never_both_at_work(
    platform: Platform, stack: State, start: Start, proxy: SilentProxy
) -> None:
    draw = random.Random(SEED)
    print(f"\n{TRIALS} trials, seed {SEED}, a lease of {SECONDS:g} s")
    print(f"{'':>3}  {'silent':<14} {'worker':<12} after    for  it stopped  the other began", flush=True)
    for trial in range(1, TRIALS + 1):
        (platform.workspace.root / "log").unlink(missing_ok=True)
        ways = draw.choice([(), ("to the server",), ("to the client",)])
        how = draw.choice(["", "asks nothing"])
        after_s, for_s = draw.uniform(0.1, 3.0), draw.uniform(0.5, 2.5) * SECONDS
        proxy.speak()
        behind = start("behind", proxy, how=how)
        until(lambda: works(platform, "behind"))
        other = start("other")
        time.sleep(after_s)
        proxy.fall_silent(*ways)
        silent = time.monotonic()
        time.sleep(for_s)
        proxy.speak()
        # A short silence is ridden out: who has it goes on, and the other has its turn afterwards.
        later = time.monotonic() + SECONDS
        until(lambda later=later: works(platform, "other") or works(platform, "behind", later), 4 * SECONDS + 20)
        kept = not works(platform, "other")
        behind.stdin.close()
        behind.wait(60)
        until(lambda: works(platform, "other"), 4 * SECONDS + 20)
        time.sleep(0.5)
        other.stdin.close()
        other.wait(60)
        moments = log(platform)
        assert changes(moments) == ["behind", "other"], f"trial {trial} (seed {SEED}): {shifts(moments)}"
        last = max(one.at for one in moments if one.who == "behind" and one.what in ("works", "does"))
        first = min(one.at for one in moments if one.who == "other" and one.what == "works")
        assert kept or last < silent + SECONDS, "it stops in a bounded time"
        print(
            f"{trial:>3}  {' '.join(ways) or 'both ways':<14} {how or 'writes':<12} {after_s:>4.1f}s {for_s:>5.1f}s"
            + ("  kept it" if kept else f"{last - silent:>+10.2f}s {first - silent:>+15.2f}s"),
            flush=True,
        )
    with reading(platform) as connection:
        assert [row for row in leases(connection) if row.name == "trial"] == []


def test_one_that_slept_past_its_lease_does_nothing_more_when_it_wakes(platform: Platform, start: Start) -> None:
    sleeper = start("sleeper", seconds=3.0)
    until(lambda: works(platform, "sleeper"))
    sleeper.send_signal(signal.SIGSTOP)
    asleep = time.monotonic()
    other = start("other", seconds=3.0)
    until(lambda: works(platform, "other"))
    assert time.monotonic() - asleep > 2.0, "not before it had run out"
    woke = time.monotonic()
    sleeper.send_signal(signal.SIGCONT)
    until(lambda: any(one.who == "sleeper" and one.what == "lost" for one in log(platform)))
    later = [one for one in log(platform) if one.who == "sleeper" and one.at > woke]
    assert all(one.what != "does" for one in later), "before each step it asks"
    assert max((one.at for one in later if one.what != "lost"), default=woke) - woke < 2.0
    with reading(platform) as connection:
        done = connection.execute(text("SELECT count(*) FROM effects WHERE who = 'sleeper'")).scalar_one()
        (row,) = [row for row in leases(connection) if row.name == "trial"]
    time.sleep(1.0)
    with reading(platform) as connection:
        assert connection.execute(text("SELECT count(*) FROM effects WHERE who = 'sleeper'")).scalar_one() == done
    assert (row.run, row.pid) == ("other", other.pid), "the loser does not take it away again"


def test_a_clock_that_jumps_moves_nothing(platform: Platform, start: Start) -> None:
    start("jumper", seconds=3.0, how="with a clock that jumps")
    until(lambda: works(platform, "jumper"))
    start("other", seconds=3.0, how="with a clock that jumps")
    time.sleep(8.0)
    # As if the server's own clock had jumped: the row says that it is over, the lock that it is not.
    for _ in range(20):
        with transaction(platform) as connection:
            connection.exec_driver_sql(
                "UPDATE leases SET expires = '2020-01-01T00:00:00.000+00:00' WHERE name = 'trial'"
            )
            assert free_dead(connection) == []
        with pytest.raises(Leased), lease(platform, "trial", 3.0):
            pass
    assert changes(log(platform)) == ["jumper"]
    assert [one for one in log(platform) if one.what == "lost"] == []


def test_a_server_that_ends_the_session_or_itself_gives_it_to_nobody_else(
    platform: Platform, stack: State, start: Start
) -> None:
    start("first", seconds=30.0)
    until(lambda: works(platform, "first"))
    start("other", seconds=30.0)
    engine = create_engine(stack.database("ledger", "postgresql+psycopg2"))
    for _ in range(4):
        with engine.begin() as connection:  # the lock is free for a moment
            connection.exec_driver_sql("SELECT pg_terminate_backend(pid) FROM pg_locks WHERE locktype = 'advisory'")
        time.sleep(1.0)
    engine.dispose()
    with away(stack, "dies", "postgres"):
        time.sleep(1.0)
    back = time.monotonic()
    until(lambda: works(platform, "first", back + 5))
    assert changes(log(platform)) == ["first"]
    assert [one for one in log(platform) if one.what == "lost"] == []


def test_a_killed_holder_on_this_machine_loses_it_at_once(platform: Platform, start: Start) -> None:
    first = start("first", seconds=600.0)
    until(lambda: works(platform, "first"))
    first.kill()
    first.wait()
    with lease(platform, "trial", 600.0, wait_s=5.0), reading(platform) as connection:
        assert [row.pid for row in leases(connection) if row.name == "trial"] == [os.getpid()]


def test_two_that_give_it_back_take_turns(platform: Platform, start: Start) -> None:
    for who in ("one", "two"):
        start(who, work_s=0.5)
    until(lambda: len(changes(log(platform))) >= 6)
    ends = {one.who for one in log(platform) if one.what == "ends"}
    assert ends == {"one", "two"}
    assert [one for one in log(platform) if one.what == "lost"] == []
