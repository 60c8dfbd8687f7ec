"""Who must approve and who may promote, by release.yaml, and by whose name."""

import json
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from flows.errors import INCONCLUSIVE, USAGE, Refusal
from flows.ledger.database import transaction
from flows.registry.tracking import MODEL, Unreachable
from flows.registry.user import confirmed_user
from flows.release import audit
from flows.release.actions import approve, promote, rollback
from flows.release.check import check
from flows.release.duties import read_duties
from flows.release.signer import signer
from flows.workspace.platform import Platform

from .conftest import Shop
from .test_release_actions import refused
from .test_release_commands import Say, say

__all__ = ["say"]


@pytest.fixture
def policy(two: Shop) -> Iterator[Callable[..., None]]:
    """Write release.yaml; the workspace is shared by tests, so it goes with this one."""
    path = two.workspace.root / "release.yaml"

    def write(approvals: int = 1, separate: bool = False) -> None:
        path.write_text(f"release:\n  approvals: {approvals}\n  separate_promoter: {str(separate).lower()}\n")

    yield write
    path.unlink(missing_ok=True)


def logged(shop: Shop, version: int) -> list[audit.Entry]:
    with transaction(shop.platform) as connection:
        check(connection)
        return audit.entries(connection, version)


def test_the_one_that_comes_along_asks_for_nothing_new(two: Shop) -> None:
    duties = read_duties(two.workspace.root)
    assert (duties.approvals, duties.separate_promoter) == (1, False)
    assert promote(two.platform, 2, "Ada").state == "champion", "who approved it"
    last = logged(two, 2)[-1]
    assert (last.detail["policy"], last.detail["approvals"]) == (duties.digest(), ["Ada"])


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("release: {approvals: 0, separate_promoter: false}\n", "release.yaml: .*approvals"),
        ("release: {approvals: 2}\n", "release.yaml: .*separate_promoter"),
        ("release: {approvals: 2, separate_promoter: true, more: 1}\n", "release.yaml: .*more"),
        ("nothing: 1\n", "release.yaml: "),
    ],
)
def test_a_wrong_file_is_refused_before_anything_is_asked(
    two: Shop, policy: Callable[..., None], text: str, words: str
) -> None:
    (two.workspace.root / "release.yaml").write_text(text)
    for action in (lambda: promote(two.platform, 2, "Bob"), lambda: approve(two.platform, 2, "Bob", "good")):
        refused(two, action, Refusal, words, USAGE)


def test_several_must_approve_and_one_person_counts_once(two: Shop, policy: Callable[..., None]) -> None:
    policy(approvals=3)

    def up() -> object:
        return promote(two.platform, 2, "Bob")

    refused(
        two, up, Refusal, "version 2: approved by Ada, and release.yaml asks for 3: 2 more approvals of other people"
    )
    before = two.releases()
    for again in ("Ada", " aDA ", "ADA"):
        assert approve(two.platform, 2, again, "again").approved_by == "Ada"
    assert two.releases() == before
    assert approve(two.platform, 2, "Eve", "me too").state == "approved"
    refused(
        two, up, Refusal, "approved by Ada and Eve, and .* asks for 3: 1 more approval of another person is missing"
    )
    approve(two.platform, 2, "Cy", "and me")
    page = two.client.get_model_version(MODEL, "2").description
    assert all(f"Approved by **{name}**" in page for name in ("Ada", "Eve", "Cy")) and "me too" in page
    fourth = lambda: approve(two.platform, 2, "Dan", "late")  # noqa: E731
    refused(two, fourth, Refusal, "version 2 was approved by Ada, Eve and Cy at 20.* already and is approved")
    assert promote(two.platform, 2, "Bob").state == "champion"
    *_, last = logged(two, 2)
    assert last.detail["approvals"] == ["Ada", "Eve", "Cy"]
    assert [entry.action for entry in logged(two, 2)].count("approve") == 2


def test_what_counts_is_the_policy_at_promotion(two: Shop, policy: Callable[..., None]) -> None:
    policy(approvals=2)
    refused(two, lambda: promote(two.platform, 2, "Bob"), Refusal, "1 more approval")
    policy(approvals=1)
    refused(two, lambda: approve(two.platform, 2, "Eve", "me too"), Refusal, "approved by Ada at 20.* already")
    promote(two.platform, 2, "Bob")
    assert logged(two, 2)[-1].detail["policy"] == read_duties(two.workspace.root).digest()
    policy(approvals=2)
    assert promote(two.platform, 2, "Bob").state == "champion", "what is done stays done"


def test_who_approved_does_not_promote_where_that_must_be_another(two: Shop, policy: Callable[..., None]) -> None:
    policy(separate=True)
    for name in ("Ada", "ada", " A d a".replace(" ", "")):
        refused(
            two, lambda by=name: promote(two.platform, 2, by), Refusal, f"{name} approved it, and release.yaml asks"
        )
    policy(approvals=2, separate=True)
    approve(two.platform, 2, "Eve", "me too")
    refused(two, lambda: promote(two.platform, 2, "eve"), Refusal, "eve approved it")
    assert promote(two.platform, 2, "Bob").state == "champion"
    assert rollback(two.platform, "Ada", "hums").version == 1, "to go back is nobody's privilege"


def test_a_new_verdict_voids_every_approval(two: Shop, policy: Callable[..., None]) -> None:
    policy(approvals=2)
    approve(two.platform, 2, "Eve", "me too")
    two.gate(2)
    approve(two.platform, 2, "Eve", "again")
    refused(two, lambda: promote(two.platform, 2, "Bob"), Refusal, "approved by Eve, and .* asks for 2")
    approve(two.platform, 2, "Ada", "again")
    assert promote(two.platform, 2, "Bob").state == "champion"


def test_an_override_is_answered_for_by_each(two: Shop, policy: Callable[..., None]) -> None:
    policy(approvals=2)
    two.gate(2, "inconclusive")
    approve(two.platform, 2, "Ada", "all there is", override=True)
    second = lambda: approve(two.platform, 2, "Eve", "me too")  # noqa: E731
    refused(two, second, Refusal, "inconclusive, and Ada approved it all the same; .*--override", INCONCLUSIVE)
    approve(two.platform, 2, "Eve", "me too", override=True)
    assert promote(two.platform, 2, "Bob").state == "champion"


def test_two_who_approve_at_once_both_count(two: Shop, policy: Callable[..., None]) -> None:
    policy(approvals=3)
    together = threading.Barrier(2)

    def sign(name: str) -> None:
        together.wait()
        approve(two.platform, 2, name, "good")

    threads = [threading.Thread(target=sign, args=(name,)) for name in ("Eve", "Cy")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert promote(two.platform, 2, "Bob").state == "champion"


def test_the_command_says_how_many_are_missing(two: Shop, policy: Callable[..., None], say: Say) -> None:
    policy(approvals=3, separate=True)
    done = say(two, "approve 2 --by ada --reason again")
    assert "version 2: already approved by Ada at 20" in done.stdout
    assert "; 1 of 3 approvals, one person counts once\nnext: needledrop approve 2   by 2 more" in done.stdout
    done = say(two, "approve 2 --by Eve --reason good")
    assert "version 2: approved by Eve at 20" in done.stdout and "; 2 of 3 approvals\n" in done.stdout
    told = json.loads(say(two, "approve 2 --by Cy --reason good --json").stdout)
    assert ([one["by"] for one in told["approvals"]], told["needed"]) == (["Ada", "Eve", "Cy"], 3)
    done = say(two, "promote 2 --by Cy")
    assert (done.returncode, done.stderr.count("\n")) == (1, 1) and "Cy approved it" in done.stderr
    assert say(two, "release show 2").stdout.count("approved by") == 3
    assert "Ada, Eve, Cy" in say(two, "release show").stdout
    assert say(two, "promote 2 --by Bob").returncode == 0 and say(two, "audit verify").returncode == 0


# -- names ------------------------------------------------------------------------------------------


@pytest.fixture
def server() -> Iterator[tuple[str, dict[str, str]]]:
    """What MLflow's basic authentication answers about users; the users that it knows, by their login."""
    known: dict[str, str] = {}

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            user = known.get(str(self.headers["Authorization"]))
            there = bool(known) and self.path == "/api/2.0/mlflow/users/current"
            body = json.dumps({"is_basic_auth": True, "user": {"id": 1, "is_admin": True, "username": user}}).encode()
            self.send_response(404 if not there else 200 if user else 401)
            self.end_headers()
            self.wfile.write(body if user and there else b"You are not authenticated.")

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    made = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=made.serve_forever, args=(0.05,), daemon=True).start()
    yield f"http://127.0.0.1:{made.server_port}", known
    made.shutdown()
    made.server_close()


ADA = "Basic YWRhOnNlc2FtZQ=="  # ada:sesame


@pytest.fixture
def served(
    two: Shop, server: tuple[str, dict[str, str]], monkeypatch: pytest.MonkeyPatch
) -> Iterator[tuple[Platform, dict[str, str]]]:
    """A platform whose MLflow is that server, and who is known there."""
    import mlflow

    monkeypatch.setenv("MLFLOW_TRACKING_USERNAME", "ada")
    monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", "sesame")
    before = mlflow.get_tracking_uri(), mlflow.get_registry_uri()
    environment = two.platform.environment.model_copy(update={"tracking_uri": server[0], "mlflow_username": "ada"})
    yield replace(two.platform, environment=environment), server[1]
    mlflow.set_tracking_uri(before[0])
    mlflow.set_registry_uri(before[1])


def test_the_name_is_the_one_that_the_server_confirms(served: tuple[Platform, dict[str, str]]) -> None:
    platform, known = served
    assert confirmed_user(platform) is None and signer(platform, "Bob") == "Bob", "a server that keeps no users"
    known[ADA] = "ada"
    assert signer(platform, None) == signer(platform, "Ada") == signer(platform, " ADA ") == "ada"
    for sign in (
        lambda: approve(platform, 2, "Bob", "good"),
        lambda: promote(platform, 2, "Bob"),
        lambda: rollback(platform, "Bob", "hums"),
    ):
        with pytest.raises(Refusal, match=r"knows you as ada, so you cannot sign as Bob; .*nothing changed") as refusal:
            sign()
        assert "\n" not in str(refusal.value) and "sesame" not in str(refusal.value)


def test_a_wrong_password_is_no_name(served: tuple[Platform, dict[str, str]]) -> None:
    platform, known = served
    known["Basic another"] = "ada"
    with pytest.raises(Unreachable, match="see MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD"):
        promote(platform, 2, "ada")


def test_without_a_server_the_name_is_as_said_or_the_machines(two: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOGNAME", "carl")
    assert (signer(two.platform, " Ada  L. "), signer(two.platform, None)) == ("Ada L.", "carl")
    assert confirmed_user(two.platform) is None
