"""One gate: evaluate challenger and champion now, on the same test set, come to a verdict, and write it down."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from flows.errors import GATE_FAILED, Refusal
from flows.gate import evidence
from flows.gate.report import Check, GateReport, Outcome, Words
from flows.gate.settings import GateSettings, read_settings
from flows.ledger.database import reading, transaction
from flows.registry.tracking import Unreachable
from flows.release import releases
from flows.release.evidence import PAGE, REPORT
from flows.release.mirror import mirror
from flows.release.releases import Release, StaleState
from flows.release.unit import ArtifactsGone
from flows.workspace.graph import Graph
from flows.workspace.platform import Platform

if TYPE_CHECKING:
    from mlflow import MlflowClient

    from flows.gate.evaluate import TestSet
    from flows.gate.judged import Judged
    from flows.gate.sides import Side

ACTOR = "gate"


@dataclass(frozen=True)
class GateResult:
    """What a gate decided.

    Attributes:
        version: that was gated.
        champion: that it was held against; None: against the floors.
        verdict: passed, failed or inconclusive.
        words: the same as a person would say it.
        checks: what it rests on.
        evidence: sha256 of report.json.
        known: whether the same pair had been gated on the same data before.
        page: report.html, and report: report.json, in the workspace.
    """

    version: int
    champion: int | None
    verdict: Outcome
    words: Words
    checks: tuple[Check, ...]
    evidence: str
    known: bool
    page: str
    report: str

    def as_json(self) -> dict[str, Any]:
        """As plain values."""
        checks = [check.model_dump() for check in self.checks]
        return vars(self) | {"words": self.words.model_dump(), "checks": checks}


def run_gate(graph: Graph, platform: Platform, version: int | None, settings: GateSettings | None = None) -> GateResult:
    """Gate a version by `settings`, or by gate.yaml where there are none; the caller holds the workspace's lock.

    Raises:
        Refusal: it cannot be gated; the message says why, and nothing has changed.
    """
    settings = settings or read_settings(platform.workspace.root)
    client = mirror(platform)
    release, champion = _pair(platform, version)
    uri = platform.tracking_uri
    from flows.gate.evaluate import read_test_set

    test = read_test_set(graph, platform.workspace)
    key = evidence.key_of(release.digest, champion.digest if champion else None, test.queries.digest, settings.digest())
    folder = platform.workspace.reports / f"gate-{release.version}"
    report = evidence.recall(client, uri, release.version, release.run_id, key, folder)
    known = report is not None and evidence.holds(report, evidence.this_machine(), datetime.now(UTC))
    if report is None or not known:
        report = _examine(client, graph, platform, test, release, champion, settings, key)
        from flows.gate.excerpts import excerpts

        media = excerpts(report.examples, platform.workspace.root, settings.media_mib)
        evidence.write(folder / REPORT, folder / PAGE, report, media)
        evidence.log(client, uri, release.version, release.run_id, folder, report)
    assert report.verdict is not None  # noqa: S101
    digest = evidence.sha256(folder / REPORT)
    _record(platform, release, champion, report.verdict, report.words.headline, digest)
    mirror(platform)
    return GateResult(
        version=release.version,
        champion=champion.version if champion else None,
        verdict=report.verdict,
        words=report.words,
        checks=report.checks,
        evidence=digest,
        known=known,
        page=str(folder / PAGE),
        report=str(folder / REPORT),
    )


def _pair(platform: Platform, version: int | None) -> tuple[Release, Release | None]:
    """Return the version and the champion.

    Raises:
        Refusal: there is no such version, or nothing to find out about it.
    """
    with reading(platform) as connection:
        champion = releases.champion(connection)
        release = releases.challenger(connection) if version is None else releases.read(connection, version)
    if release is None:
        reigning = f"version {champion.version} is champion and nothing newer is registered" if champion else "none yet"
        raise Refusal(f"there is no challenger ({reigning}); `needledrop retrain` makes one")
    if champion is not None and release.version == champion.version:
        raise Refusal(f"version {release.version} is the champion: there is nothing to hold it against")
    if release.state == "retired":
        raise Refusal(f"version {release.version} was retired and stays so; `needledrop retrain` makes another one")
    if release.state == "superseded":
        raise Refusal(
            f"version {release.version} was champion before; `needledrop rollback` restores the previous champion"
        )
    if champion is not None and release.model == champion.model:
        raise Refusal(
            f"version {release.version} holds the very model of champion version {champion.version} "
            f"(sha256 {release.model[:12]}), so it cannot be better; nothing was evaluated",
            GATE_FAILED,
        )
    return release, champion


def _examine(
    client: "MlflowClient",
    graph: Graph,
    platform: Platform,
    test: "TestSet",
    release: Release,
    champion: Release | None,
    settings: GateSettings,
    key: str,
) -> GateReport:
    """Evaluate both and return the report; of the versions nothing is written but how they ranked the test clips."""
    from flows.gate.baseline import evaluate_cca
    from flows.gate.evaluate import apart_from_learnt, time_versions
    from flows.gate.judged import judge, needs_process
    from flows.gate.verdict import make_report
    from flows.release.own_code import OwnCode
    from flows.release.verified import verify

    made = datetime.now(UTC).isoformat(timespec="seconds")
    asked = (test.pool, test.queries.texts, test.section.threads)
    root = platform.workspace.root
    ours = verify(client, platform.workspace, release)
    apart = needs_process(ours, release, test.pool)
    with ExitStack() as both:
        if champion is None:
            process = both.enter_context(OwnCode(platform.environment)) if apart else None
            side = _ranked(client, platform, both.enter_context(judge(root, ours, release, *asked, process)), test)
            cca = evaluate_cca(graph, platform.workspace, test) if settings.floors.above_cca else None
            queries, told = apart_from_learnt(client, test, [release], [side] if cca is None else [side, cca])
            return make_report(queries, told[0], told[1] if cca else None, "floors", settings, made, key)
        with _evaluated(champion):
            theirs = verify(client, platform.workspace, champion)
            apart = apart or needs_process(theirs, champion, test.pool)
        # Both start before either is loaded: their libraries take seconds.
        processes = [both.enter_context(OwnCode(platform.environment)) if apart else None for _ in range(2)]
        with _evaluated(champion):
            opponent = both.enter_context(judge(root, theirs, champion, *asked, processes[1]))
            other = _ranked(client, platform, opponent, test)
        judged = both.enter_context(judge(root, ours, release, *asked, processes[0]))
        sides = [_ranked(client, platform, judged, test), other]
        spent = time_versions([judged, opponent], test, settings)
    timed = [replace(side, latency_ms=times) for side, times in zip(sides, spent, strict=True)]
    queries, told = apart_from_learnt(client, test, [release, champion], timed)
    return make_report(queries, told[0], told[1], "champion", settings, made, key, evidence.this_machine())


@contextmanager
def _evaluated(champion: Release) -> Iterator[None]:
    """Say of what stops the champion's evaluation that it is the champion's, with the way out."""
    try:
        yield
    except Unreachable:
        raise
    except Refusal as error:
        kind = ArtifactsGone if isinstance(error, ArtifactsGone) else Refusal
        raise kind(f"the champion cannot be evaluated: {error}; {_way_out(champion)}") from None


def _ranked(client: "MlflowClient", platform: Platform, version: "Judged", test: "TestSet") -> "Side":
    """Return how a version ranks the test clips, from before where nothing has changed since."""
    from flows.gate import ranks
    from flows.gate.evaluate import evaluate

    side = ranks.recall(client, platform, version.release, test.queries)
    if side is None:
        try:
            side = replace(evaluate(version, test, version.name, {}), unread=version.unread)
        except ValueError as error:  # of its scores
            raise Refusal(f"{version.name} cannot be ranked: {error}") from None
        ranks.keep(client, platform, version.release, test.queries, side)
    noted = {"environment": version.note} if version.note else {}
    return replace(side, facts=version.facts | noted)


def _way_out(champion: Release) -> str:
    return (
        "or make another one champion with `needledrop rollback`, or end this one in the open with "
        f"`needledrop retire {champion.version}`: then the floors of a first champion apply; nothing was changed"
    )


def _record(
    platform: Platform, release: Release, champion: Release | None, verdict: Outcome, headline: str, digest: str
) -> None:
    """Write the verdict into the ledger, unless it is there.

    Raises:
        StaleState: the version or the champion is another than when the gate began.
    """
    number = release.version
    reigning = champion.version if champion else None
    with transaction(platform) as connection:
        now, at = releases.read(connection, number), releases.champion(connection)
        if (at.version if at else None) != reigning:
            held = f"version {at.version} became champion" if at else "the champion was taken back"
            raise StaleState(f"{held} while version {number} was gated; run `needledrop gate {number}` again")
        if now.evidence == digest and now.against == reigning and now.state in (verdict, "approved"):
            return
        # One transaction: no version is seen as evaluated and without a verdict.
        against = f"champion version {reigning}" if reigning else "the floors of a first champion"
        releases.move(connection, number, release.state, "evaluated", ACTOR, f"Gated against {against}.")
        releases.move(connection, number, "evaluated", verdict, ACTOR, f"{headline}.", digest)
