"""What a release must be before it is approved or promoted, and what a name and a reason are; each refusal in one line."""

from typing import Final

from flows.errors import ERROR, GATE_FAILED, INCONCLUSIVE, Refusal
from flows.release.releases import Release, StaleState
from flows.release.states import State

NONE_YET: Final = 0
"""The expected champion of who expects that there is none."""

_NAME_CHARS, _REASON_CHARS = 100, 500
_NO_NAMES = {"nobody", "none", "null", "unknown", "anonymous"}


_UNJUDGED: Final[dict[State, str]] = {
    "registered": "has not been gated yet",
    "evaluated": "has no verdict yet: a gate runs, or was stopped",
    "rolled_back": "was rolled back, and its approval with it",
}
_RETIRED: Final = "was retired and stays so; `needledrop retrain` makes another one"


def require_verdict(release: Release, override: bool) -> None:
    """Refuse what no gate has passed.

    Raises:
        Refusal: with the exit code of the verdict.
    """
    number = release.version
    if release.state == "retired":
        raise Refusal(f"version {number} {_RETIRED}")
    if release.state in _UNJUDGED:
        raise Refusal(f"version {number} {_UNJUDGED[release.state]}; run `needledrop gate {number}` first")
    if release.state == "failed":
        raise Refusal(
            f"version {number} failed its gate and cannot be approved; read the gate report, then retrain", GATE_FAILED
        )
    if release.state == "inconclusive" and not override:
        raise Refusal(
            f"version {number}: its gate was inconclusive; gate it with more test data, or answer for it with "
            "--override-inconclusive",
            INCONCLUSIVE,
        )


def require_same_champion(release: Release, reigning: Release | None) -> None:
    """Refuse a verdict against another champion than the present one.

    Raises:
        StaleState: it was.
    """
    now = reigning.version if reigning else None
    if release.against != now:
        was = f"champion version {release.against}" if release.against else "no champion"
        held = f"version {now} is champion" if now else "there is none"
        raise StaleState(
            f"version {release.version} was gated against {was}, and by now {held}; nothing changed: "
            f"run `needledrop gate {release.version}`, then approve it again"
        )


def require_promotable(release: Release, reigning: Release | None, expected: int | None) -> None:
    """Refuse what is not approved, or approved against another champion than the present one.

    Raises:
        Refusal, StaleState: with what it is and what is champion.
    """
    number, now = release.version, reigning.version if reigning else NONE_YET
    if release.state == "retired":
        raise Refusal(f"version {number} {_RETIRED}")
    if release.state == "superseded":
        raise Refusal(f"version {number} was champion before; `needledrop rollback` restores the previous champion")
    if release.state != "approved":
        code = {"failed": GATE_FAILED, "inconclusive": INCONCLUSIVE}.get(release.state, ERROR)
        first = "approve" if release.state in ("passed", "inconclusive") else "gate"
        raise Refusal(f"version {number} is {release.state}, not approved; see `needledrop {first} {number}`", code)
    if expected is not None and expected != now:
        held = f"version {now} is champion" if now else "there is no champion"
        raise StaleState(f"{held}, not {f'version {expected}' if expected else 'none'} as expected; nothing changed")
    require_same_champion(release, reigning)


def name_of(by: str) -> str:
    """Return a person's name in one line.

    Raises:
        Refusal: it is empty, nobody's, or too long.
    """
    name = " ".join(by.split())
    if not any(letter.isalpha() for letter in name) or name.lower() in _NO_NAMES or not name.isprintable():
        raise Refusal(f"--by must name who answers for it (got {by!r})")
    if len(name) > _NAME_CHARS:
        raise Refusal(f"--by is longer than {_NAME_CHARS} characters")
    return name


def reason_of(reason: str) -> str:
    """Return a reason in one line.

    Raises:
        Refusal: it is empty or too long.
    """
    text = " ".join(reason.split())
    if not text:
        raise Refusal("--reason must say why, in words")
    if len(text) > _REASON_CHARS:
        raise Refusal(f"--reason is longer than {_REASON_CHARS} characters")
    return text
