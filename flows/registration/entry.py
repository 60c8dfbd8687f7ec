"""How a model version gets into the ledger: its stored files are read back, so what is signed off is what is stored."""

from typing import TYPE_CHECKING, Final

from flows.ledger.database import transaction
from flows.release import audit
from flows.release.mirror import DIGEST_TAG, RUN_TAG, standing
from flows.release.releases import add
from flows.release.table import Release
from flows.release.unit import readable, stored
from flows.workspace.platform import Platform

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities.model_registry import ModelVersion

ACTOR: Final = "register"


def known(platform: Platform, digest: str) -> Release | None:
    """Return the release of this content; None where the ledger has none."""
    return next((one for one in standing(platform).releases if one.digest == digest), None)


def enter(client: "MlflowClient", platform: Platform, version: "ModelVersion") -> Release:
    """Put a model version into the ledger, in the state `registered`, and make it the challenger.

    Raises:
        Refusal: its files are gone or no pair, or the ledger is not of this MLflow store.
    """
    run_id = version.tags[RUN_TAG]
    release = known(platform, version.tags[DIGEST_TAG])
    if release is None or (release.version, release.run_id) != (int(version.version), run_id):
        release = _read_back(client, version)
    with transaction(platform) as connection:
        return add(connection, release, ACTOR)


def _read_back(client: "MlflowClient", version: "ModelVersion") -> Release:
    number, tags = int(version.version), version.tags
    with stored(client, number) as folder:
        unit = readable(folder, number)
    commit = client.get_run(tags[RUN_TAG]).data.tags.get("mlflow.source.git.commit", "")
    return Release(
        version=number,
        digest=tags[DIGEST_TAG],
        state="registered",
        run_id=tags[RUN_TAG],
        model=unit.model,
        index=unit.index,
        catalogue=unit.catalogue,
        specs=unit.specs,
        manifest=tags["needledrop.manifest"],
        params=tags["needledrop.params"],
        code=tags["needledrop.code"],
        commit=commit,
        evidence=None,
        approved_by=None,
        approved_at=None,
        created=audit.now(),
        files=unit.files,
    )
