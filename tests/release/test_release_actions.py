"""Approve, promote, roll back, on real stores: what they change, what they refuse, and that a refusal changes nothing."""

import shutil
from collections.abc import Callable

import pytest

from flows.errors import GATE_FAILED, INCONCLUSIVE, Refusal
from flows.ledger.database import _engine, reading
from flows.registry.tracking import MODEL, Unreachable
from flows.release import actions
from flows.release.actions import approve, promote, retire, rollback
from flows.release.check import check
from flows.release.mirror import STATE_TAG
from flows.release.releases import Release, StaleState, UnknownVersion
from flows.release.unit import ArtifactsGone, MismatchedPair

from .conftest import Shop, swap_index


def refused(shop: Shop, action: Callable[[], object], kind: type[Refusal], words: str, code: int = 1) -> None:
    """The action is refused in one line with these words, and ledger and MLflow are as before."""
    before = (shop.releases(), shop.shown())
    with pytest.raises(kind, match=words) as refusal:
        action()
    assert "\n" not in str(refusal.value) and refusal.value.code == code
    assert (shop.releases(), shop.shown()) == before


def test_a_release_from_registration_to_rollback(shop: Shop) -> None:
    one = shop.register()
    assert (one.state, shop.shown()) == ("registered", {"challenger": 1})
    evidence = shop.gate(1)
    signed = approve(shop.platform, 1, " Ada  Lovelace ", "listened\nto it")
    assert (signed.state, signed.approved_by, signed.evidence) == ("approved", "Ada Lovelace", evidence)
    assert promote(shop.platform, 1, "Bob", 0).state == "champion"
    assert shop.shown() == {"champion": 1}
    page = shop.client.get_model_version(MODEL, "1")
    assert page.tags[STATE_TAG] == "champion"
    assert "Approved by **Ada Lovelace**" in page.description and "listened to it" in page.description
    assert evidence in page.description
    assert f"runs/{one.run_id}/artifacts/gate/{evidence[:12]}/report.html)" in page.description

    shop.register()
    assert shop.shown() == {"champion": 1, "challenger": 2}
    shop.crown(2)
    assert shop.shown() == shop.held() == {"champion": 2, "previous": 1}
    assert rollback(shop.platform, "Cy", "it hums").version == 1
    assert shop.states() == {1: "champion", 2: "rolled_back"} and shop.shown() == {"champion": 1}
    page = shop.client.get_model_version(MODEL, "2")
    assert page.tags[STATE_TAG] == "rolled_back" and "it hums" in page.description
    # What was rolled back may be mended from outside and gated again; its approval is void.
    refused(shop, lambda: promote(shop.platform, 2, "Bob"), Refusal, "rolled_back, not approved")
    shop.crown(2)
    assert shop.shown() == {"champion": 2, "previous": 1}


def test_what_people_write_is_no_html_on_the_page_of_a_version(shop: Shop) -> None:
    shop.register()
    shop.gate(1)
    assert approve(shop.platform, 1, "<b>Ada</b>", "<script>alert(1)</script> & more").approved_by == "<b>Ada</b>"
    promote(shop.platform, 1, "Bob <bob@lab>", 0)
    text = shop.client.get_model_version(MODEL, "1").description
    assert (
        "<" not in text
        and "**&lt;b&gt;Ada&lt;/b&gt;**" in text
        and "&lt;script&gt;alert(1)&lt;/script&gt; &amp; more" in text
    )
    assert "(Bob &lt;bob@lab&gt;)" in text


def test_three_champions_are_rolled_back_one_by_one(two: Shop) -> None:
    shop = two
    promote(shop.platform, 2, "Bob")
    shop.register()
    shop.crown(3)
    assert shop.shown() == {"champion": 3, "previous": 2}
    rollback(shop.platform, "Cy", "hums")
    assert shop.shown() == {"champion": 2, "previous": 1}
    # A second try of the same rollback says what it expects, and so does no harm.
    again = lambda: rollback(shop.platform, "Cy", "hums", 3)  # noqa: E731
    refused(shop, again, StaleState, "version 2 is champion, not 3")
    rollback(shop.platform, "Cy", "hums too")
    assert shop.shown() == {"champion": 1}
    first = lambda: rollback(shop.platform, "Cy", "hums")  # noqa: E731
    refused(shop, first, Refusal, "version 1 is the first champion: there is no previous one")


def test_a_champion_whose_files_are_lost_is_retired_and_the_floors_apply_to_the_next(two: Shop) -> None:
    """Version 1 reigns, version 2 was gated against it; then the champion's files are gone, whenever that was."""
    shutil.rmtree(two.folder(1))
    refused(
        two,
        lambda: retire(two.platform, 2, "Ada", "x"),
        Refusal,
        "version 2 is approved: only a version that is champion",
    )
    refused(two, lambda: retire(two.platform, 9, "Ada", "x"), UnknownVersion, "no version 9")
    refused(two, lambda: retire(two.platform, 1, "Ada", " "), Refusal, "--reason must say why")
    gone = retire(two.platform, 1, "Ada", "the store burnt down")
    assert gone.state == "retired" and two.shown() == two.held() == {"challenger": 2}
    page = two.client.get_model_version(MODEL, "1")
    assert page.tags[STATE_TAG] == "retired" and "the store burnt down" in page.description
    # Again changes nothing; it stays retired whatever is tried.
    before = two.releases()
    assert retire(two.platform, 1, "Eve", "again") == gone and two.releases() == before
    refused(two, lambda: approve(two.platform, 1, "Ada", "good"), Refusal, "version 1 was retired and stays so")
    refused(two, lambda: promote(two.platform, 1, "Bob"), Refusal, "version 1 was retired and stays so")
    # The verdict against it is void; one by the floors leads to the throne.
    stale = "gated against champion version 1, and by now there is none"
    refused(two, lambda: promote(two.platform, 2, "Bob"), StaleState, stale)
    assert two.crown(2).state == "champion" and two.shown() == {"champion": 2}
    refused(two, lambda: rollback(two.platform, "Cy", "x"), Refusal, "version 2 is the first champion")


def test_after_a_retirement_a_rollback_restores_the_champion_before(two: Shop) -> None:
    promote(two.platform, 2, "Bob")
    retire(two.platform, 2, "Ada", "its licence was withdrawn")
    assert two.shown() == {"previous": 1}
    refused(two, lambda: rollback(two.platform, "Cy", "x", 2), StaleState, "no version is champion, not 2")
    assert rollback(two.platform, "Cy", "back to what we had").version == 1
    assert two.states() == {1: "champion", 2: "retired"} and two.shown() == {"champion": 1}
    # A former champion that must never come back.
    two.register()
    two.crown(3)
    retire(two.platform, 1, "Ada", "too old")
    assert two.shown() == {"champion": 3}
    refused(
        two, lambda: rollback(two.platform, "Cy", "x"), Refusal, "version 3 is the first champion: there is no previous"
    )
    retire(two.platform, 3, "Ada", "and this one")
    refused(two, lambda: rollback(two.platform, "Cy", "x"), Refusal, "no champion, and none before it to restore")
    assert check_log(two) > 0


def check_log(shop: Shop) -> int:
    """Verify the audit log against the releases."""
    with reading(shop.platform) as connection:
        return check(connection)


def test_approving_again_is_the_same_approval_or_none(two: Shop) -> None:
    (_, before) = two.releases()
    assert approve(two.platform, 2, "Ada", "again") == before
    other = lambda: approve(two.platform, 2, "Eve", "me too")  # noqa: E731
    refused(two, other, Refusal, "version 2 was approved by Ada at 20.*already")


def test_what_was_not_passed_is_not_approved(shop: Shop) -> None:
    def sign(version: int, by: str = "Ada", reason: str = "good", override: bool = False) -> Release:
        return approve(shop.platform, version, by, reason, override)

    with pytest.raises(UnknownVersion, match="no releases yet"):
        sign(1)
    assert not shop.workspace.ledger.exists()
    shop.register()
    refused(shop, lambda: sign(7), UnknownVersion, "no version 7 in the ledger; there is 1")
    refused(shop, lambda: sign(1), Refusal, "not been gated yet; run `needledrop gate 1`")
    shop.gate(1, "failed")
    refused(shop, lambda: sign(1), Refusal, "failed its gate", GATE_FAILED)
    refused(shop, lambda: sign(1, override=True), Refusal, "failed its gate", GATE_FAILED)
    shop.gate(1, "inconclusive")
    refused(shop, lambda: sign(1), Refusal, "inconclusive.*--override-inconclusive", INCONCLUSIVE)
    for nobody in ("", "  ", "nobody", "42", "\t"):
        refused(shop, lambda by=nobody: sign(1, by), Refusal, "--by must name")
    refused(shop, lambda: sign(1, reason=" "), Refusal, "--reason must say why")
    assert sign(1, reason="the test set is all there is", override=True).state == "approved"


def test_approval_is_of_the_report_that_the_gate_recorded(shop: Shop) -> None:
    release = shop.register()
    shop.gate(1)
    (report,) = shop.workspace.mlflow_artifacts.rglob(f"{release.run_id}/**/report.json")
    report.write_text(report.read_text().replace("passed", "PASSED"))
    sign = lambda: approve(shop.platform, 1, "Ada", "good")  # noqa: E731
    refused(shop, sign, Refusal, "no gate report .* run `needledrop gate 1` again")


def test_a_verdict_against_another_champion_does_not_count(shop: Shop) -> None:
    for _ in range(3):
        shop.register()
    shop.gate(1)
    shop.gate(2)
    shop.gate(3)
    for version in (1, 2):
        approve(shop.platform, version, "Ada", "good")
    promote(shop.platform, 1, "Bob")
    stale = "gated against no champion, and by now version 1 is champion"
    refused(shop, lambda: promote(shop.platform, 2, "Bob"), StaleState, stale)
    refused(shop, lambda: approve(shop.platform, 3, "Ada", "good"), StaleState, stale)


def test_promotion_wants_approval_and_the_expected_champion(two: Shop) -> None:
    def up(version: int, expect: int | None = None) -> Release:
        return promote(two.platform, version, "Bob", expect)

    two.register()
    refused(two, lambda: up(9), UnknownVersion, "no version 9")
    refused(two, lambda: up(3), Refusal, "version 3 is registered, not approved")
    two.gate(3, "failed")
    refused(two, lambda: up(3), Refusal, "failed, not approved", GATE_FAILED)
    refused(two, lambda: up(2, 3), StaleState, "version 1 is champion, not version 3 as expected")
    refused(two, lambda: up(2, 0), StaleState, "version 1 is champion, not none as expected")
    assert up(2, 1).state == "champion"
    before = two.releases()
    up(2, 1)  # a second try of what was done
    assert two.releases() == before
    refused(two, lambda: up(1), Refusal, "`needledrop rollback` restores")


def test_a_mismatched_pair_is_neither_registered_nor_promoted(two: Shop) -> None:
    with pytest.raises(MismatchedPair, match="version 3: the index was made with model"):
        two.register(index_of=1)
    assert [release.version for release in two.releases()] == [1, 2]
    swap_index(two.folder(1), two.folder(2))
    up = lambda: promote(two.platform, 2, "Bob")  # noqa: E731
    refused(two, up, MismatchedPair, "version 2: the index was made with model .* they are no pair")


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("artifacts/model/config.json", "damaged|not what was registered|no pair"),
        ("artifacts/model/model.safetensors", "damaged .*is not the one"),
        ("artifacts/index/catalogue.parquet", "index is not what was registered"),
        ("code/search.py", "logged files are not what was registered"),
    ],
)
def test_files_that_are_gone_or_others_are_not_promoted(two: Shop, name: str, words: str) -> None:
    path = two.folder(2) / name
    before = path.read_bytes()
    path.write_bytes(before + b" ")
    up = lambda: promote(two.platform, 2, "Bob")  # noqa: E731
    refused(two, up, Refusal, f"version 2.*({words}).*")
    path.unlink()
    refused(two, up, ArtifactsGone, "version 2.*(gone|not what was registered)")
    shutil.rmtree(two.folder(2))
    refused(two, up, ArtifactsGone, "version 2.*restore the artifact store")


def test_a_champion_whose_files_are_gone(two: Shop) -> None:
    shutil.rmtree(two.folder(1))
    up = lambda: promote(two.platform, 2, "Bob")  # noqa: E731
    refused(two, up, ArtifactsGone, "the champion, version 1.*--champion-lost")
    promote(two.platform, 2, "Bob", champion_lost=True)
    back = lambda: rollback(two.platform, "Cy", "hums")  # noqa: E731
    refused(two, back, ArtifactsGone, "version 1")


def test_what_loading_leaves_in_a_local_store_is_no_change(two: Shop) -> None:
    (two.folder(2) / "registered_model_meta").write_text("model_name: needledrop\n")
    (two.folder(2) / "code/__pycache__").mkdir()
    (two.folder(2) / "code/__pycache__/search.pyc").write_bytes(b"")
    assert promote(two.platform, 2, "Bob").state == "champion"


def test_a_kill_between_ledger_and_mlflow_heals_with_the_next_command(
    two: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Killed(BaseException):
        pass

    def die(*_: object) -> None:
        raise Killed

    with monkeypatch.context() as patched:
        patched.setattr(actions, "_show", die)
        with pytest.raises(Killed):
            promote(two.platform, 2, "Bob")
    assert two.held() == {"champion": 2, "previous": 1} and two.shown() == {"champion": 1, "challenger": 2}
    promote(two.platform, 2, "Bob", 1)
    assert two.shown() == {"champion": 2, "previous": 1}
    tags = [two.client.get_model_version(MODEL, str(version)).tags[STATE_TAG] for version in (1, 2)]
    assert tags == ["superseded", "champion"]


def test_mlflow_down_before_and_after_the_decision(two: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    before = two.releases()
    with monkeypatch.context() as patched:
        patched.setattr("time.sleep", lambda _: None)
        patched.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
        with pytest.raises(Unreachable, match="does not answer"):
            promote(two.platform, 2, "Bob")
    assert two.releases() == before
    whole, calls = actions.mirror, []

    def once(*stores: object) -> object:
        calls.append(stores)
        if len(calls) > 1:
            raise Unreachable("MLflow at somewhere does not answer")
        return whole(*stores)  # type: ignore[arg-type]

    with monkeypatch.context() as patched:
        patched.setattr(actions, "mirror", once)
        with pytest.raises(Unreachable, match=r"version 2 is champion, but MLflow does not show it yet.*same command"):
            promote(two.platform, 2, "Bob")
    assert two.states()[2] == "champion"


def test_another_ledgers_champion_keeps_its_alias(two: Shop) -> None:
    two.workspace.ledger.unlink()  # as on a machine where NEEDLEDROP_LEDGER_URL was forgotten
    _engine.cache_clear()
    two.register()
    two.gate(3)
    approve(two.platform, 3, "Ada", "good")
    up = lambda: promote(two.platform, 3, "Bob")  # noqa: E731
    refused(two, up, Refusal, "champion is version 1, which this ledger does not know")
    assert two.shown() == {"champion": 1, "challenger": 3}
