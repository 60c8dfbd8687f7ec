"""The state machine: whatever is tried in whatever order, only what was approved is champion, and the log tells all."""

import os
from dataclasses import replace
from pathlib import Path

import hypothesis.strategies as st
import pytest
from hypothesis import settings
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule
from sqlalchemy import create_engine

from flows.environment import Environment
from flows.errors import Refusal
from flows.ledger.database import TABLES, _engine, transaction
from flows.release import audit
from flows.release.check import check
from flows.release.releases import (
    StaleState,
    UnknownVersion,
    add,
    all_releases,
    challenger,
    champion,
    move,
    previous,
    read,
)
from flows.release.states import ALLOWED, VERDICTS, State
from flows.workspace.platform import Platform
from flows.workspace.workspace import Workspace

from .releases_of import EVIDENCE, approved, crown, release

VERSIONS = (1, 2)


class Releases(RuleBasedStateMachine):
    """Two versions, and people who move them as they like."""

    def __init__(self) -> None:
        super().__init__()
        self.connection = create_engine("sqlite://").connect()
        TABLES.create_all(self.connection)
        self.trail: dict[int, list[State]] = {}
        for version in VERSIONS:
            add(self.connection, release(version), "register")
            self.trail[version] = ["registered"]

    @rule(
        version=st.sampled_from(VERSIONS), expected=st.sampled_from(list(ALLOWED)), new=st.sampled_from(list(ALLOWED)),
        override=st.booleans(),
    )  # fmt: skip
    def move_anywhere(self, version: int, expected: State, new: State, override: bool) -> None:
        self._move(version, expected, new, override)

    @rule(version=st.sampled_from(VERSIONS), choose=st.integers(0, 2), override=st.booleans())
    def move_on(self, version: int, choose: int, override: bool) -> None:
        now = read(self.connection, version).state
        steps = sorted(ALLOWED[now]) or [now]
        self._move(version, now, steps[choose % len(steps)], override)

    def _move(self, version: int, expected: State, new: State, override: bool) -> None:
        before = all_releases(self.connection)
        rows = audit.verify(self.connection)
        try:
            moved = move(
                self.connection, version, expected, new, "somebody", "because", EVIDENCE if new in VERDICTS else None, override
            )  # fmt: skip
        except StaleState:
            assert (all_releases(self.connection), audit.verify(self.connection)) == (before, rows)
            return
        assert moved.state == new
        if audit.verify(self.connection) == rows:
            assert all_releases(self.connection) == before and self.trail[version][-1] == new, (
                "nothing told, nothing done"
            )
        else:
            assert self.trail[version][-1] == expected
            self.trail[version].append(new)

    @invariant()
    def a_champion_was_passed_and_approved(self) -> None:
        reigning = [one for one in all_releases(self.connection) if one.state == "champion"]
        assert len(reigning) <= 1
        for one in reigning:
            trail = self.trail[one.version]
            last = len(trail) - 1 - trail[::-1].index("evaluated")
            assert trail[last + 1] in ("passed", "inconclusive") and trail[last + 2 : last + 4] == [
                "approved",
                "champion",
            ]
            assert one.approved_by == "somebody" and one.evidence == EVIDENCE

    @invariant()
    def the_log_is_whole_and_tells_the_states(self) -> None:
        assert check(self.connection) == audit.verify(self.connection)
        told = {entry.version: entry.detail["to"] for entry in audit.entries(self.connection)}
        assert told == {one.version: one.state for one in all_releases(self.connection)}

    def teardown(self) -> None:
        self.connection.close()


TestReleases = Releases.TestCase
TestReleases.settings = settings(max_examples=8, stateful_step_count=25, deadline=None, database=None)


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    return Workspace(tmp_path)


NOWHERE = Environment(ledger_url=None)


def test_the_table_of_steps_is_the_documented_one() -> None:
    steps = {(one, other) for one, following in ALLOWED.items() for other in following}
    forward = {
        ("registered", "evaluated"), ("evaluated", "passed"), ("evaluated", "failed"), ("evaluated", "inconclusive"),
        ("passed", "approved"), ("inconclusive", "approved"), ("approved", "champion"), ("champion", "superseded"),
        ("champion", "rolled_back"), ("superseded", "champion"), ("champion", "retired"), ("superseded", "retired"),
    }  # fmt: skip
    gated_again = {(one, "evaluated") for one in ("passed", "failed", "inconclusive", "approved", "rolled_back")}
    assert steps == forward | gated_again


def test_an_approved_version_that_is_gated_again_loses_its_approval(workspace: Workspace) -> None:
    with transaction(Platform(workspace, NOWHERE)) as connection:
        approved(connection, 1)
        approved(connection, 2)
        crown(connection, 1)
        assert read(connection, 2).against is None
        again = move(connection, 2, "approved", "evaluated", "gate", "the champion is another")
        assert (again.against, again.evidence, again.approved_by, again.approved_at) == (1, None, None, None)
        assert challenger(connection) == again and previous(connection) is None


def test_inconclusive_is_approved_by_override_only_and_the_log_says_so(workspace: Workspace) -> None:
    with transaction(Platform(workspace, NOWHERE)) as connection:
        add(connection, release(1), "register")
        move(connection, 1, "registered", "evaluated", "gate", "began")
        move(connection, 1, "evaluated", "inconclusive", "gate", "too few queries", EVIDENCE)
        with pytest.raises(StaleState, match="version 1 is inconclusive; nothing changed"):
            move(connection, 1, "inconclusive", "approved", "Ada", "good")
        move(connection, 1, "inconclusive", "approved", "Ada", "all there is", override=True)
        last = audit.entries(connection)[-1]
        assert last.detail["override"] is True and last.detail["reason"] == "all there is" and last.actor == "Ada"


def test_a_verdict_needs_its_evidence(workspace: Workspace) -> None:
    with transaction(Platform(workspace, NOWHERE)) as connection:
        add(connection, release(1), "register")
        move(connection, 1, "registered", "evaluated", "gate", "began")
        with pytest.raises(ValueError, match="evidence"):
            move(connection, 1, "evaluated", "passed", "gate", "passed")


def test_content_is_added_once_and_is_the_challenger_again(workspace: Workspace) -> None:
    with transaction(Platform(workspace, NOWHERE)) as connection:
        for version in (1, 2):
            add(connection, release(version), "register")
        assert challenger(connection) == read(connection, 2)
        add(connection, release(1), "register")
        assert challenger(connection) == read(connection, 1) and len(all_releases(connection)) == 2
        rows = audit.verify(connection)
        add(connection, release(1), "register")
        assert audit.verify(connection) == rows == 3
        with pytest.raises(Refusal, match=r"they are not of one another.*NEEDLEDROP_LEDGER_URL"):
            add(connection, replace(release(2), version=1), "register")
        with pytest.raises(UnknownVersion, match="no version 5 in the ledger; there is 1, 2"):
            read(connection, 5)


def test_of_many_processes_that_promote_at_once_one_wins(workspace: Workspace) -> None:
    many = range(1, 7)
    with transaction(Platform(workspace, NOWHERE)) as connection:
        for version in many:
            approved(connection, version)
    children = {}
    for version in many:
        child = os.fork()
        if child == 0:
            _engine.cache_clear()  # a connection is not to be shared with the parent
            try:
                with transaction(Platform(workspace, NOWHERE)) as connection:
                    move(connection, version, "approved", "champion", "Bob", "better")
                os._exit(0)
            except StaleState:
                os._exit(3)
        children[child] = version
    codes = {version: os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child, version in children.items()}
    assert sorted(codes.values()) == [0, 3, 3, 3, 3, 3]
    with transaction(Platform(workspace, NOWHERE)) as connection:
        won = champion(connection)
        assert won is not None and codes[won.version] == 0
        check(connection)
