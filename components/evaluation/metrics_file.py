"""metrics.json as types: a model for each block, every figure with its meaning, unit and source.

Every number is finite. A figure that was not measured is absent from the file, and a block without any is empty
(``{}`` or ``[]``); here they are None or empty. The only nulls are the ends of a slice's interval, where it has none;
a null elsewhere is read as not measured.

``python -m components.evaluation.metrics_file`` prints the JSON schema, which is kept in docs/schemas/metrics.json.
"""

import json
from pathlib import Path
from typing import Annotated, Any, Final, Literal, get_args

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    SerializerFunctionWrapHandler,
    ValidationError,
    field_serializer,
    field_validator,
    model_validator,
)
from pydantic.json_schema import SkipJsonSchema, WithJsonSchema

from components.stage import write_json

Mode = Literal["video", "text", "video+text"]
MODES: Final[tuple[Mode, ...]] = get_args(Mode)
FUSED: Final = "video+text"


# The file's keys, where they are no names in Python.
KEYS: Final = {
    "recall_at_1": "R@1",
    "recall_at_5": "R@5",
    "recall_at_10": "R@10",
    "median_rank": "MedR",
    "mean_reciprocal_rank": "MRR",
    "fused": FUSED,
}


class MetricsError(ValueError):
    """A metrics.json cannot be read; the message names the file and the key."""


def _absent() -> Any:
    """Return a field that the file leaves out where it was not measured."""

    def without_default(schema: dict[str, Any]) -> None:
        del schema["default"]

    return Field(default=None, exclude_if=lambda value: value is None, json_schema_extra=without_default)


class Figures(BaseModel):
    """What every block shares: it cannot be changed, knows its keys, and holds finite numbers only."""

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        use_attribute_docstrings=True,
        allow_inf_nan=False,
        alias_generator=lambda name: KEYS.get(name, name),
        validate_by_name=True,
        validate_by_alias=True,
        serialize_by_alias=True,
    )


class Interval(Figures):
    """A figure with its interval: percentiles over resamples of whole clusters of queries (cluster bootstrap)."""

    value: float
    """The figure on the queries themselves."""
    low: float
    """Lower end of the interval; ``pool.confidence`` is its coverage."""
    high: float
    """Upper end of the interval."""


class RankMetrics(Figures):
    """What the ranks of the right items amount to, each figure with its interval. Rank 1 is first."""

    recall_at_1: Interval
    """Recall at 1: share of queries, 0 to 1, whose best-placed right item is first."""
    recall_at_5: Interval
    """Recall at 5: share of queries, 0 to 1, with a right item among the first five."""
    recall_at_10: Interval
    """Recall at 10: share of queries, 0 to 1, with a right item among the first ten."""
    median_rank: Interval
    """Median over queries of the rank of the best-placed right item, in places; lower is better."""
    mean_reciprocal_rank: Interval
    """Mean over queries of 1 / rank, 0 to 1 (Voorhees, TREC-8 1999)."""


class ChanceMetrics(Figures):
    """The same of a random order, as expectations: with p right items of N, P(rank > k) = C(N - p, k) / C(N, k)."""

    recall_at_1: float
    """Expected recall at 1, 0 to 1; 1 / N where one item is right."""
    recall_at_5: float
    """Expected recall at 5, 0 to 1."""
    recall_at_10: float
    """Expected recall at 10, 0 to 1."""
    median_rank: float
    """Median rank, in places; (N + 1) / 2 where one item is right."""
    mean_reciprocal_rank: float
    """Expected mean reciprocal rank, 0 to 1; H(N) / N, H the harmonic number, where one item is right."""


class OracleRatio(Figures):
    """The model's share of the oracle; a figure is absent where it would be divided by 0."""

    recall_at_1: float | SkipJsonSchema[None] = _absent()
    """Recall at 1 over the oracle's."""
    recall_at_5: float | SkipJsonSchema[None] = _absent()
    """Recall at 5 over the oracle's."""
    recall_at_10: float | SkipJsonSchema[None] = _absent()
    """Recall at 10 over the oracle's."""
    median_rank: float | SkipJsonSchema[None] = _absent()
    """The oracle's median rank over the model's, so that here too 1 is the limit."""
    mean_reciprocal_rank: float | SkipJsonSchema[None] = _absent()
    """Mean reciprocal rank over the oracle's."""


class PoolFacts(Figures):
    """What was asked, and of how many items the right one had to be found."""

    size: int
    """Clips in a pool: every query of it is ranked against all of them."""
    queries: int
    """Queries over all pools."""
    pools: int
    """Pools; they share no clip."""
    artists: int
    """Artists of the queries."""
    clusters: int
    """Groups of queries that share a video, an artist or a track; intervals draw whole groups."""
    text_source: Literal["annotation", "caption", "none"]
    """Whose words the queries' texts are: people's, the captioning stage's, or nobody's."""
    confidence: float
    """Coverage of every interval in this file, for example 0.95."""
    chance: ChanceMetrics
    """Figures of a random order of a pool, whole tracks."""


class Directions(Figures):
    """Figures by direction and query mode; modes that the pool has no texts for are absent."""

    video_to_music: dict[Mode, RankMetrics]
    """Music ranked for a query of video, text or both."""
    music_to_video: dict[Mode, RankMetrics]
    """Queries ranked for a piece of music."""


class GradedRelevance(Figures):
    """Mean nDCG at 10 (Jarvelin and Kekalainen 2002), relevance being the weighted Jaccard index of tag probabilities."""

    video: Interval | SkipJsonSchema[None] = _absent()
    """For queries of video alone, 0 to 1."""
    text: Interval | SkipJsonSchema[None] = _absent()
    """For queries of text alone, 0 to 1."""
    fused: Interval | SkipJsonSchema[None] = _absent()
    """For queries of video and text, 0 to 1."""
    chance: float | SkipJsonSchema[None] = _absent()
    """Expected of a random order, 0 to 1."""


class ModeFigures(Figures):
    """One figure for each query mode, and what chance gives."""

    video: float | SkipJsonSchema[None] = _absent()
    """For queries of video alone."""
    text: float | SkipJsonSchema[None] = _absent()
    """For queries of text alone."""
    fused: float | SkipJsonSchema[None] = _absent()
    """For queries of video and text."""
    chance: float
    """Of random lists."""

    def by_mode(self) -> dict[Mode, float]:
        """Return the figures of the modes that were measured."""
        every = {"video": self.video, "text": self.text, FUSED: self.fused}
        return {mode: value for mode in MODES if (value := every[mode]) is not None}


class RankSummary(Figures):
    """Two figures of ranks."""

    recall_at_10: Interval
    """Share of queries, 0 to 1, with a right item among the first ten."""
    median_rank: Interval
    """Median rank, in places; lower is better."""


class CounterfactualOracle(Figures):
    """Recall at 10 of the best possible ranking of the same queries."""

    own: Interval
    """Of the video's own track, 0 to 1."""
    donor: Interval
    """Of the track whose text it is, 0 to 1."""


class Counterfactual(Figures):
    """The same videos, each with the text of another track: does the ranking follow the words?"""

    queries: int
    """Queries; a clip that no other track's text could be given to is left out."""
    own: RankSummary
    """Ranks of the video's own track for the video and the other text."""
    donor: RankSummary
    """Ranks of the track whose text it is, for the same queries."""
    donor_by_video: RankSummary
    """Ranks of that track for the video alone."""
    rises: Interval
    """Share of queries, 0 to 1, for which that track is placed higher with its text than for the video alone."""
    above_chance: bool
    """Whether the interval of the own track's recall at 10 lies above chance: the video still counts."""
    oracle: CounterfactualOracle | SkipJsonSchema[None] = _absent()
    """Limits of both recalls; only where the corpus' truth is known."""


class GuidanceRow(Figures):
    """Recall at 10 with the embeddings of video and text mixed by weight: query = unit((1 - w) y_video + w y_text)."""

    weight: float
    """w, of the text: 0 is the video alone, 1 the text alone."""
    own: Interval
    """Of the track that video and text are of, 0 to 1."""
    donor: Interval | SkipJsonSchema[None] = _absent()
    """With another track's text: of that track, 0 to 1."""
    kept: Interval | SkipJsonSchema[None] = _absent()
    """With another track's text: of the video's own track, 0 to 1."""


class SliceInterval(Figures):
    """A figure of a slice with its interval; both ends are null where all its queries are of one cluster."""

    value: float
    """The figure on the slice's queries."""
    low: float | None
    """Lower end of the interval."""
    high: float | None
    """Upper end of the interval."""

    @model_validator(mode="after")
    def _both_ends_or_none(self) -> "SliceInterval":
        if (self.low is None) != (self.high is None):
            raise ValueError("low and high are both numbers or both null")
        return self


class SliceRow(Figures):
    """Queries that have something in common."""

    by: str
    """What they were cut by: genre, mood, length or text."""
    name: str
    """What they have in common."""
    queries: int
    """Queries in the slice."""
    clusters: int
    """Clusters that these are of."""
    recall_at_10: dict[Mode, SliceInterval]
    """Recall at 10 by query mode, 0 to 1; whole tracks, query to music."""


class Metrics(Figures):
    """The whole of metrics.json: how well the test clips' music was found, against chance and the oracle."""

    pool: PoolFacts
    """What was asked."""
    track: Directions
    """Whole clips ranked; any clip of the same track is right."""
    segment: Directions
    """The middle segment of each clip ranked; only the music of that clip at that time is right."""
    oracle: dict[Mode, RankMetrics]
    """The Bayes-optimal ranking, the limit of the task; empty where the corpus' truth is not known."""
    ratio_to_oracle: dict[Mode, OracleRatio]
    """The model's figures (tracks, video to music) over the oracle's; empty with it."""
    graded: GradedRelevance
    """Relevance by likeness of tags, not by identity of tracks; empty where there are no tags."""
    hubness: ModeFigures
    """Skewness of how often an item is in a list of ten (Radovanovic et al., JMLR 2010, eq. 1); 0 is even."""
    coverage: ModeFigures
    """Share of items, 0 to 1, that are in some list of ten however ties are broken."""
    counterfactual: Counterfactual | Annotated[None, WithJsonSchema({"type": "object", "maxProperties": 0})]
    """Videos with another track's text; empty where the pool has no texts or no other track."""
    guidance: tuple[GuidanceRow, ...]
    """By weight of the text, ascending; empty where the pool has no texts or no weights were asked for."""
    slices: tuple[SliceRow, ...]
    """By genre, mood, length and kind of text; small ones are left out."""

    @field_validator("counterfactual", mode="before")
    @classmethod
    def _empty_is_none(cls, block: Any) -> Any:
        return None if block == {} else block

    @field_serializer("counterfactual", mode="wrap")
    def _none_is_empty(self, block: Counterfactual | None, write: SerializerFunctionWrapHandler) -> Any:
        return {} if block is None else write(block)

    def as_json(self) -> dict[str, Any]:
        """Return the file's content as plain values."""
        return self.model_dump(mode="json")


def read_metrics(path: Path, name: str | None = None) -> Metrics:
    """Read a metrics.json.

    Args:
        path: the file.
        name: what messages call it, where it is a copy.

    Raises:
        MetricsError: it is not there, is damaged, or was written by another version; file and key are named.
    """
    name = name or str(path)
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise MetricsError(f"{name}: {error.strerror}") from None
    except UnicodeDecodeError as error:
        raise MetricsError(f"{name}: not UTF-8 text (byte {error.start}); it is damaged") from None
    try:
        return Metrics.model_validate_json(text, strict=True)
    except ValidationError as error:
        raise MetricsError(f"{name}: {_problem(error, text)}; it is damaged, or of another version") from None


def write_metrics(path: Path, metrics: Metrics) -> None:
    """Write metrics.json, whole or not at all; equal figures give equal bytes."""
    write_json(path, metrics.as_json())


def schema() -> str:
    """Return the JSON schema of the file, as text."""
    return json.dumps(Metrics.model_json_schema(), indent=2) + "\n"


def _problem(error: ValidationError, text: str) -> str:
    """Return the first problem in one line, its key written as the file has it."""
    first, *others = error.errors()
    if first["type"] == "json_invalid":
        return f"not JSON ({first['msg'].removeprefix('Invalid JSON: ')})"
    # A union adds its members' names to the place; they are no keys.
    keys, value = [], json.loads(text)
    for part in first["loc"]:
        if isinstance(part, int) or (isinstance(value, dict) and part in value):
            keys.append(str(part))
            value = value[part]
    if first["type"] == "missing":
        return f"{'.'.join([*keys, str(first['loc'][-1])])} is missing"
    if first["type"] == "extra_forbidden":
        return f"{'.'.join(keys)} is an unknown key"
    more = f", and {len(others)} more" if others else ""
    return f"{'.'.join(keys) or 'the file'}: {first['msg'][:1].lower()}{first['msg'][1:]}{more}"


if __name__ == "__main__":
    print(schema(), end="")
