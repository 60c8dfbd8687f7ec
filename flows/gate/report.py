"""The gate's report: what was asked, what was found, and what follows from it. It is stored as report.json.

``python -m flows.gate.report`` prints its JSON schema, which is kept in docs/schemas/gate-report.json.

The ledger keeps the sha256 of the stored bytes, and an approval is of that very file: a report is read from its
bytes and never written anew. A change of a field is a new `FORMAT`.
"""

import json
from typing import Any, Final, Literal

from pydantic import BaseModel, ConfigDict, Field, SerializerFunctionWrapHandler, ValidationError, model_serializer

from components.evaluation.metrics_file import Interval, Mode
from flows.errors import Refusal
from flows.gate.settings import GateSettings

FORMAT: Final = "needledrop.gate/2"
"""Reports of /1, which do not name the clips that either side put first, are read too."""

Kind = Literal["champion", "floors", "comparison"]
"""`champion`: a gate against it. `floors`: against the floors of a first champion. `comparison`: no gate."""
Outcome = Literal["passed", "failed", "inconclusive"]
Key = Literal["superiority", "video", "text", "worst_slice", "slices", "coverage", "latency", "chance", "cca"]


class Part(BaseModel):
    """A part of the report."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True, validate_by_name=True)


class Sparse(Part):
    """A part in which what is not known is left out."""

    @model_serializer(mode="wrap")
    def _known(self, serialise: SerializerFunctionWrapHandler) -> dict[str, Any]:
        return {name: value for name, value in serialise(self).items() if value is not None}


class Difference(Interval):
    """A share of queries (0 to 1), or a difference of two (-1 to 1), and what it takes to say how many would narrow it."""

    error: float
    """Standard error: the deviation over subsets of artists."""
    queries: int
    """How many it rests on."""


class Check(Part):
    """One line of the decision."""

    key: Key
    """Its name for programs."""
    asks: str
    """What must hold, in words."""
    found: str
    """What was found, in words."""
    limit: str
    """What it was held against, in words."""
    outcome: Outcome
    """Whether it holds."""
    figures: dict[str, float | int | str]
    """The numbers behind it; shares of queries, or ms for latency."""


class Words(Part):
    """The verdict as a person would say it."""

    headline: str
    """Without a full stop."""
    found: str
    """A sentence; empty where there is nothing to compare."""
    next: str
    """What to do; empty for a comparison."""


class SideReport(Part):
    """One of the two systems."""

    name: str
    """Such as "version 4"."""
    recall: dict[Mode, Interval] = Field(validation_alias="R@10", serialization_alias="R@10")
    """Share of queries whose right track is among the first ten, by query mode."""
    median_rank: dict[Mode, float]
    """Rank of the right track, 1 = first, by query mode."""
    coverage: dict[Mode, float]
    """Share of the test catalogue that is in some list of ten; without modes for which it is not known."""
    facts: dict[str, str]
    """What names it: digests, run, commit."""


class Slice(Part):
    """Queries that have something in common, and what both sides reach on them (video+text, R@10)."""

    by: str
    """What it is cut by, such as "genre"."""
    name: str
    """Its name."""
    queries: int
    """In it."""
    clusters: int
    """Artists (or what else is alike) among them."""
    judged: bool
    """Whether it has enough of them to count for the gate."""
    ours: float
    """Share of hits of the challenger."""
    theirs: float
    """Share of hits of the other."""
    difference: Difference | None
    """Ours less theirs; null where it has too few clusters for an interval."""
    adjusted: Difference | None
    """The same with an interval that holds for all judged slices at once (Bonferroni); null where not judged."""


class Pick(Part):
    """A clip that can be heard."""

    clip_id: str
    """Its id."""
    uri: str | None
    """Its file; null where the manifest is not at hand."""
    start_s: float | None
    """Its beginning in the file, s."""
    end_s: float | None
    """Its end in the file, s."""


class Example(Part):
    """A query whose answer changed."""

    clip_id: str
    """Of the query, whose own track is the right answer."""
    uri: str | None
    """Its file; null where the manifest is not at hand."""
    start_s: float | None
    """Beginning of the clip in the file, s."""
    end_s: float | None
    """End of the clip in the file, s."""
    title: str
    """Of the right answer."""
    text: str | None
    """The words of the query."""
    ours_rank: int
    """Rank of the right track for the challenger, 1 = first."""
    ours_first: str
    """Title that it put first."""
    theirs_rank: int
    """Rank for the other."""
    theirs_first: str
    """Title that the other put first."""
    among_first: int
    """The k of R@k."""
    ours_pick: Pick | None = None
    """What the challenger put first; absent in reports of needledrop.gate/1."""
    theirs_pick: Pick | None = None
    """What the other put first; absent likewise."""

    @model_serializer(mode="wrap")
    def _named(self, serialise: SerializerFunctionWrapHandler) -> dict[str, Any]:
        picks = ("ours_pick", "theirs_pick")
        return {name: value for name, value in serialise(self).items() if value is not None or name not in picks}


class Examples(Part):
    """The biggest changes of rank for video+text."""

    wins: tuple[Example, ...]
    """The challenger is better."""
    losses: tuple[Example, ...]
    """The challenger is worse."""


class Data(Sparse):
    """What both sides were asked."""

    test_digest: str
    """Which queries, in which pools, clustered how, from which features: sha256."""
    queries: int
    """How many."""
    clusters: int
    """How many groups of them (artists) are the pieces of evidence."""
    pool: int
    """Clips in a pool."""
    chance: float
    """R@10 of a random order, a share."""
    text_source: str
    """Whose words the texts are: annotation, caption or none."""
    video_features: str | None = None
    """Digest of the spec that made the features."""
    music_features: str | None = None
    """Digest of the spec that made the features."""
    text_features: str | None = None
    """Digest of the spec that made the features."""
    video_content: str | None = None
    """Digest of what the features of these clips were made from."""
    music_content: str | None = None
    """Digest of what the features of these clips were made from."""
    text_content: str | None = None
    """Digest of what the features of these clips were made from."""
    left_out: dict[str, str] | None = None
    """Test clips that are not compared on, by clip id: which side learnt from them, and how; absent where there are none."""
    clusters_by: str | None = None
    """What a comparison of logged ranks clusters by."""


class Provenance(Sparse):
    """How the report came about."""

    key: str | None = None
    """What the verdict follows from, as a digest; a comparison has none."""
    made: str
    """ISO 8601, UTC."""
    machine: str | None = None
    """Where queries were timed; a digest."""
    seed: int
    """Of the subsets that are drawn."""
    resamples: int
    """Subsets of artists behind each interval, at most."""


class GateReport(Part):
    """All of it."""

    format: Literal["needledrop.gate/1", "needledrop.gate/2"]
    """Version of this layout."""
    kind: Kind
    """What the challenger was held against."""
    verdict: Outcome | None
    """All checks together; null for a comparison."""
    words: Words
    """The verdict in words."""
    challenger: SideReport
    """What is gated, or the first of two that are compared."""
    other: SideReport | None
    """The champion, the baseline of a first champion, or the second of two; null where there is none."""
    checks: tuple[Check, ...]
    """Every line of the decision."""
    modes: dict[Mode, Difference]
    """R@10 of the challenger less that of the other, by query mode that both have."""
    slices: tuple[Slice, ...]
    """The same in parts of the queries."""
    detectable: float | None
    """Smallest true gain for video+text that this data would show at the power of the settings, a share of queries."""
    examples: Examples
    """Queries that changed most."""
    data: Data
    """The test clips."""
    settings: GateSettings
    """gate.yaml."""
    settings_digest: str
    """sha256 of the settings."""
    provenance: Provenance
    """Key and time."""

    def as_json(self) -> dict[str, Any]:
        """As plain values, by the names that the file has."""
        return self.model_dump(mode="json", by_alias=True)


def read_report(text: str | bytes, where: str) -> GateReport:
    """Return a report from the bytes of report.json.

    Args:
        text: of the file.
        where: what to call it in an error.

    Raises:
        Refusal: it is damaged, or of another version of the platform; the message names the field.
    """
    try:
        return GateReport.model_validate_json(text)
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(str(part) for part in first["loc"]) or "the file"
        raise Refusal(
            f"{where}: {field}: {first['msg']}; this platform reads {FORMAT}: read it with the version that wrote it"
        ) from None


def schema() -> str:
    """Return the JSON schema of the file, as text."""
    return json.dumps(GateReport.model_json_schema(), indent=2) + "\n"


if __name__ == "__main__":
    print(schema(), end="")
