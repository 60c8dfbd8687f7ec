"""What drift may start, and whom it tells."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

from flows.drift import budget
from flows.drift.settings import Retrains
from flows.environment import Environment
from flows.ledger.database import transaction
from flows.workspace.platform import Platform
from flows.workspace.workspace import Workspace

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
LIMITS = Retrains(per_week=2, apart_h=24)


def ask(workspace: Workspace, key: str, hours: float, run: str | None = "flow-run") -> budget.Claim:
    now = NOW + timedelta(hours=hours)
    with transaction(Platform(workspace, Environment())) as connection:
        claimed = budget.claim(connection, key, 1, LIMITS, now)
        if claimed.start and run:
            budget.confirm(connection, key, run)
    return claimed


def test_the_same_media_start_one_retrain_only(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path)
    assert ask(workspace, "a", 0).start
    again = ask(workspace, "a", 1000)
    assert not again.start
    assert "started a retrain already" in again.why


def test_a_claim_whose_start_was_cut_off_may_be_made_again(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path)
    assert ask(workspace, "a", 0, run=None).start
    assert ask(workspace, "a", 1).start


def test_cool_down_and_weekly_budget(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path)
    assert ask(workspace, "a", 0).start
    assert "2026-03-02T12:00:00" in ask(workspace, "b", 23).why
    assert ask(workspace, "b", 24).start
    assert "within seven days" in ask(workspace, "c", 100).why
    assert ask(workspace, "c", 7 * 24 + 1).start


def test_a_start_that_a_clock_far_ahead_has_dated_holds_up_no_other(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path)
    assert ask(workspace, "a", 24 * 400).start
    assert ask(workspace, "b", 0).start
    assert "2026-03-02T12:00:00" in ask(workspace, "c", -0.5).why, "clocks of two machines may differ a little"
