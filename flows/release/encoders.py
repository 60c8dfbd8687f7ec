"""Pre-trained encoders that a version names and does not bring: whether they are here, and the way to get them."""

from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from flows.errors import Refusal
from flows.ledger.database import reading
from flows.registry import tracking
from flows.release import releases
from flows.workspace.platform import Platform

if TYPE_CHECKING:
    from components.features.hf.carried import Carried

_FOLDER: Final = "artifacts/encoders"  # among a version's files


def check_encoders(folder: Path, number: int) -> None:
    """Check that all encoders of a version are on this machine.

    Args:
        folder: the version's verified files.
        number: the version's.

    Raises:
        Refusal: one is not; the message has the command that fetches it.
    """
    from components.features.hf.carried import carried_folder

    for encoder in _named(folder, number):
        if carried_folder(folder / _FOLDER, encoder) is None:
            raise Refusal(
                f"version {number} needs the encoder {encoder.model} at commit {encoder.commit}, which is not on this machine; "
                f"run `needledrop fetch {number}`"
            )


def fetch_encoders(platform: Platform, number: int) -> list[dict[str, Any]]:
    """Fetch the encoders that a version names from the hub; return each with its folder. What is here stays.

    Raises:
        Refusal: there is no such version; its files are not those that were registered; an encoder cannot be fetched, or
            is not the one that made the version's features.
    """
    from components.hub import folder_digest, model_folder
    from flows.release.verified import verify

    with reading(platform) as connection:
        release = releases.read(connection, number)
    client = tracking.connect(platform, patient=False)
    with tracking.answering(platform.tracking_uri):
        files = verify(client, platform.workspace, release)
    fetched = []
    for encoder in _named(files.folder, number):
        try:
            place = model_folder(encoder.model, str(encoder.commit))
        except ValueError as error:
            raise Refusal(f"version {number}: {error}") from None
        if (found := folder_digest(place)) != encoder.weights:
            raise Refusal(
                f"version {number}: the files of {encoder.model} at commit {encoder.commit} are not those that made its "
                f"features (sha256 {found[:12]}, not {encoder.weights[:12]}): remove {place} and run it again"
            )
        fetched.append({"model": encoder.model, "commit": encoder.commit, "folder": str(place)})
    return fetched


def _named(folder: Path, number: int) -> "list[Carried]":
    """Return the encoders that are on the hub alone, each once."""
    place = folder / _FOLDER
    if not place.is_dir():
        return []
    from components.features.hf.carried import read_carried

    try:
        listed = read_carried(place).values()
    except (OSError, ValueError) as error:
        raise Refusal(
            f"version {number}: its list of encoders cannot be read: {' '.join(str(error).split())}"
        ) from None
    return list({encoder.weights: encoder for encoder in listed if encoder.folder is None}.values())
