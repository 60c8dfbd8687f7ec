"""What people are told about releases: each verdict and decision once, with the figures and the way to its page."""

from collections.abc import Iterator
from dataclasses import replace

import pytest
from pydantic import SecretStr
from sqlalchemy import select

from flows.errors import Refusal
from flows.ledger import notices
from flows.ledger.database import transaction
from flows.ledger.notices import NOTICES
from flows.release.actions import approve, promote, rollback
from flows.release.announce import page, tell_refused, tell_verdict
from flows.workspace.platform import Platform
from tests.ledger import receivers

from .conftest import Shop


@pytest.fixture
def webhook(monkeypatch: pytest.MonkeyPatch) -> Iterator[receivers.Webhook]:
    monkeypatch.setattr(notices, "_patience", notices._Patience(notices._LIMIT_S))
    with receivers.webhook() as made:
        yield made


def told(shop: Shop, url: str) -> Platform:
    """The platform of who has an address to tell."""
    platform = shop.platform
    with transaction(platform) as connection:  # what was decided before is no matter of this test
        connection.execute(NOTICES.delete())
    return replace(platform, environment=platform.environment.model_copy(update={"webhook_url": SecretStr(url)}))


def waiting(shop: Shop) -> list[str]:
    with transaction(shop.platform) as connection:
        return [str(row.text) for row in connection.execute(select(NOTICES).order_by(NOTICES.c.noted, NOTICES.c.key))]


def test_decisions_are_told_with_who_and_why(two: Shop, webhook: receivers.Webhook) -> None:
    platform = told(two, webhook.url)
    approve(platform, 2, "Ada", "again")  # it is approved already
    promote(platform, 2, "Bob")
    promote(platform, 2, "Bob")
    rollback(platform, "Cy", "it hums")
    with pytest.raises(Refusal):
        promote(platform, 2, "Bob")
    assert webhook.texts == [
        "needledrop: version 2 is champion, promoted by Bob\npromoted over version 1; approved by Ada. Its gate: gate passed",
        "needledrop: version 1 is champion again, rolled back by Cy\ninstead of version 2: it hums",
    ]
    two.gate(2)
    approve(platform, 2, "Ada", "mended")
    assert webhook.texts[2:] == [
        "needledrop: version 2 passed its gate\ngate passed",
        "needledrop: version 2 is approved by Ada\nmended",
    ], "the verdict was noted where nobody had an address"


def test_a_verdict_has_its_figures_and_is_told_once(two: Shop, webhook: receivers.Webhook) -> None:
    platform = told(two, webhook.url)
    two.register()
    evidence = two.gate(3, "failed")
    assert waiting(two) == ["needledrop: version 3 failed its gate\ngate failed"], "whoever is killed now, it is told"
    for _ in range(2):
        tell_verdict(platform, 3, "failed", "Version 3 is worse: -2.0 points.", evidence)
    tell_refused(platform, 3, "the champion cannot be evaluated (try 1)")
    tell_refused(platform, 3, "the champion cannot be evaluated (try 2)")
    tell_refused(platform, 3, "MLflow's store is full")
    assert webhook.texts == [
        "needledrop: version 3 failed its gate\nVersion 3 is worse: -2.0 points.",
        "needledrop: version 3 could not be gated\nthe champion cannot be evaluated (try 1)",
        "needledrop: version 3 could not be gated\nMLflow's store is full",
    ]


def test_the_link_is_the_page_of_a_server_else_the_report_of_the_gate(two: Shop) -> None:
    served = two.platform.environment.model_copy(update={"tracking_uri": "https://me:sesame@mlflow.example.org/ml/"})
    assert page(replace(two.platform, environment=served), 2) == (
        "https://mlflow.example.org/ml/#/models/needledrop/versions/2"
    )
    assert page(two.platform, 2) == ""
    report = two.workspace.reports / "gate-2" / "report.html"
    report.parent.mkdir(parents=True)
    report.touch()
    assert page(two.platform, 2) == str(report)
    report.unlink()


def test_a_service_that_is_away_keeps_no_decision_from_being_made(
    two: Shop, caplog: pytest.LogCaptureFixture, webhook: receivers.Webhook
) -> None:
    webhook.codes.append(404)
    platform = told(two, f"{webhook.url}/s3cret")
    assert promote(platform, 2, "Bob").state == "champion"
    assert "was not sent: the service answered 404" in caplog.text and "s3cret" not in caplog.text
    assert len(waiting(two)) == 1
