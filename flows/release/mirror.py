"""MLflow shows what the ledger says: aliases, a state tag and a description per version.

A version's run has the same description. All is repaired from the ledger at the start and the end of every command that
decides something, so a kill between the two heals with the next one.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from flows.errors import Refusal
from flows.ledger.database import reading
from flows.ledger.lease import check
from flows.registry.tracking import MODEL, answering, connect, shown_aliases
from flows.release.releases import Release, all_releases, challenger, champion, previous
from flows.release.sheet import run_of, sheet
from flows.workspace.platform import Platform

if TYPE_CHECKING:
    from mlflow import MlflowClient

CHAMPION, CHALLENGER, PREVIOUS = "champion", "challenger", "previous"
ALIASES = (CHAMPION, CHALLENGER, PREVIOUS)
DIGEST_TAG, RUN_TAG = "needledrop.digest", "needledrop.run"
STATE_TAG, AUDIT_TAG = "needledrop.state", "needledrop.audit"
NOTE_TAG = "mlflow.note.content"
"""The description that MLflow shows of a run."""

_TRIES = 10  # others may decide meanwhile


@dataclass(frozen=True)
class Standing:
    """The ledger at one moment: every release, and which holds which alias."""

    releases: tuple[Release, ...]
    aliases: dict[str, int]

    def alias_of(self, version: int) -> str:
        """The version's alias, or nothing."""
        return ", ".join(name for name, number in self.aliases.items() if number == version)


def standing(platform: Platform) -> Standing:
    """Read the ledger; a look makes no ledger where there is none."""
    if platform.environment.ledger_url is None and not platform.workspace.ledger.exists():
        return Standing((), {})
    with reading(platform) as connection:
        held = {CHAMPION: champion(connection), CHALLENGER: challenger(connection), PREVIOUS: previous(connection)}
        return Standing(
            tuple(all_releases(connection)), {name: release.version for name, release in held.items() if release}
        )


def mirror(platform: Platform) -> "MlflowClient":
    """Make MLflow say what the ledger says, and return its client. Versions unknown to the ledger stay as they are.

    A gate calls it after its verdict, so that the version's page links the report.

    Raises:
        Unreachable: MLflow does not answer.
    """
    client = connect(platform)
    with answering(platform.tracking_uri):
        now = standing(platform)
        for _ in range(_TRIES):
            _show(client, platform, now)
            # Another process may have decided after the read and shown it before our writes.
            before, now = now, standing(platform)
            if before == now:
                return client
    raise Refusal("the releases kept changing while MLflow was brought up to date; run it again")


def require_own(client: "MlflowClient", now: Standing) -> None:
    """Refuse where MLflow has a champion that this ledger knows nothing of: it would lose its alias unseen.

    Raises:
        Refusal: it has one.
    """
    number = shown_aliases(client).get(CHAMPION)
    if number is not None and number not in {release.version for release in now.releases}:
        raise Refusal(
            f"MLflow's champion is version {number}, which this ledger does not know: name the team's ledger in "
            "NEEDLEDROP_LEDGER_URL, or delete that alias in MLflow if it is older than the ledger"
        )


def _show(client: "MlflowClient", platform: Platform, now: Standing) -> None:
    versions = {int(found.version): found for found in client.search_model_versions(f"name = '{MODEL}'")}
    ours = {
        release.version: release
        for release in now.releases
        if release.version in versions and versions[release.version].tags.get(DIGEST_TAG) == release.digest
    }
    if not ours:
        return
    held = {name: int(number) for name, number in client.get_registered_model(MODEL).aliases.items()}
    for name in ALIASES:
        wanted = now.aliases.get(name)
        if wanted in ours and held.get(name) != wanted:
            check()
            client.set_registered_model_alias(MODEL, name, str(wanted))
        elif wanted is None and held.get(name) in ours:
            check()
            client.delete_registered_model_alias(MODEL, name)
    for number, release in ours.items():
        tags = versions[number].tags
        if (tags.get(STATE_TAG), tags.get(AUDIT_TAG)) != (release.state, str(release.audited)):
            run = run_of(client, release)
            text = sheet(client, platform, release, run)
            check()
            client.update_model_version(MODEL, str(number), text)
            if run is not None and run.info.lifecycle_stage == "active":  # a deleted one cannot be written to
                client.set_tag(release.run_id, NOTE_TAG, text)
            client.set_model_version_tag(MODEL, str(number), STATE_TAG, release.state)
            client.set_model_version_tag(MODEL, str(number), AUDIT_TAG, str(release.audited))  # last: it says done
