"""Runs that fail or die are told: once for the same reason until it changes, whoever finds them, also in the run's log."""

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from pydantic import SecretStr
from sqlalchemy import select, update

from flows.environment import Environment
from flows.ledger import notices
from flows.ledger.attempts import ATTEMPTS, attempt, reap
from flows.ledger.database import transaction
from flows.ledger.notices import NOTICES
from flows.workspace.platform import Platform
from flows.workspace.workspace import Workspace

from . import receivers

ROOT = Path(__file__).parents[2]
FLOW = "needledrop-retrain"


@pytest.fixture
def webhook(monkeypatch: pytest.MonkeyPatch) -> Iterator[receivers.Webhook]:
    monkeypatch.setattr(notices, "_patience", notices._Patience(notices._LIMIT_S))
    with receivers.webhook() as made:
        yield made


@pytest.fixture
def platform(tmp_path: Path, webhook: receivers.Webhook) -> Platform:
    return Platform(Workspace(tmp_path), Environment(ledger_url=None, webhook_url=SecretStr(webhook.url)))


def fail(platform: Platform, run: str, reason: str) -> None:
    with pytest.raises(ValueError, match="is"), attempt(platform, FLOW, run):
        raise ValueError(reason)


def test_a_failure_is_one_notice_until_it_changes(platform: Platform, webhook: receivers.Webhook) -> None:
    fail(platform, "1", "stage 'ingest' failed; its last lines:\n  12 rows\n  error: row 3 is wrong\n  whole log: x/1")
    fail(platform, "2", "stage 'ingest' failed; its last lines:\n  13 rows\n  error: row 4 is wrong\n  whole log: x/2")
    with attempt(platform, FLOW, "3") as this:
        this.state = "skipped"
    fail(platform, "4", "stage 'ingest' failed; its last lines:\n  14 rows\n  error: row 5 is wrong\n  whole log: x/4")
    assert webhook.texts == [
        "needledrop: retrain failed\nstage 'ingest' failed; its last lines:\nerror: row 3 is wrong\nrun 1"
    ]
    fail(platform, "5", "the bucket is gone")
    fail(platform, "6", "the bucket is gone")
    assert webhook.texts[1:] == ["needledrop: retrain failed\nthe bucket is gone\nrun 5"]
    with attempt(platform, FLOW, "7"):
        pass
    fail(platform, "8", "the bucket is gone")
    assert webhook.texts[2:] == ["needledrop: retrain failed\nthe bucket is gone\nrun 8"], "it had been there"


def test_a_run_has_its_page_where_there_is_a_server(platform: Platform, webhook: receivers.Webhook) -> None:
    served = platform.environment.model_copy(update={"prefect_api_url": "http://me:sesame@prefect.example.org/api"})
    fail(Platform(platform.workspace, served), "5f2a", "the bucket is gone")
    assert webhook.texts[0].splitlines()[-1] == "http://prefect.example.org/runs/flow-run/5f2a"


def test_who_is_stopped_from_outside_leaves_the_telling_to_others(
    platform: Platform, webhook: receivers.Webhook
) -> None:
    with pytest.raises(SystemExit), attempt(platform, FLOW, "1"):
        raise SystemExit(143)
    assert webhook.got == []
    assert reap(platform) == []
    assert webhook.texts == ["needledrop: retrain failed\n143\nrun 1"]


REAP = """
import sys
from pathlib import Path
from flows.environment import Environment
from flows.ledger.attempts import reap
from flows.workspace.platform import Platform
from flows.workspace.workspace import Workspace
print(reap(Platform(Workspace(Path(sys.argv[1])), Environment(webhook_url=sys.argv[2]))))
"""


def test_a_dead_run_is_told_once_by_whichever_reaper_finds_it(platform: Platform, webhook: receivers.Webhook) -> None:
    with attempt(platform, FLOW, "1"):
        pass
    with transaction(platform) as connection:  # as if it had died before it could say so: its lease is gone
        connection.execute(update(ATTEMPTS).values(state="running", ended=None))
    rest = {name: value for name, value in os.environ.items() if not name.startswith(("NEEDLEDROP_", "PREFECT_"))}
    words = [sys.executable, "-c", REAP, str(platform.workspace.root), webhook.url]
    many = [subprocess.Popen(words, cwd=ROOT, env=rest, stdout=subprocess.PIPE, text=True) for _ in range(3)]
    found = sorted(process.communicate(timeout=120)[0].strip() for process in many)
    assert found == ["['1']", "[]", "[]"]
    (text,) = webhook.texts
    assert text.startswith("needledrop: retrain crashed\nIts process died without a word; the next run goes on")
    with transaction(platform) as connection:
        assert connection.execute(select(NOTICES.c.state)).scalars().all() == ["sent"]


def test_what_could_not_be_told_stands_in_the_log_of_the_run(
    platform: Platform, webhook: receivers.Webhook, prefect_server: str
) -> None:
    from prefect import flow
    from prefect.client.orchestration import get_client
    from prefect.client.schemas.filters import LogFilter, LogFilterFlowRunId
    from prefect.runtime import flow_run

    webhook.codes.append(404)

    @flow(name=FLOW)
    def deployed() -> None:
        with attempt(platform, FLOW, str(flow_run.id)):
            raise ValueError("the bucket is gone")

    state = deployed(return_state=True)
    assert state.is_failed()
    with get_client(sync_client=True) as client:
        run = state.state_details.flow_run_id
        wanted = LogFilter(flow_run_id=LogFilterFlowRunId(any_=[run]))
        for _ in range(100):
            lines = [line.message for line in client.read_logs(log_filter=wanted)]
            if any("was not sent: the service answered 404" in line for line in lines):
                return
            time.sleep(0.2)  # Prefect sends lines in batches
    raise AssertionError(lines)
