"""The study's tables as numbers: per row and query mode, recall with its interval and its share of the oracle."""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from components.encoder.embed import MODES
from components.evaluation.metrics_file import Counterfactual, Interval, PoolFacts
from research.corpus import Corpus
from research.jobs import Job
from research.music_video_report import VideoReport
from research.results import CUTOFFS, Queries, RowResult, difference, divided, read_queries, read_row
from research.settings import Claim, StudySettings


@dataclass(frozen=True)
class Verdict:
    """A claim and what became of it.

    Attributes:
        claim: as study.yaml has it.
        estimate: the figure that it is about, with its interval.
        held: True: the interval lies beyond the mark; False: the figure misses it; None: undecided.
    """

    claim: Claim
    estimate: Interval
    held: bool | None


@dataclass(frozen=True)
class TableRow:
    """A row of a table.

    Attributes:
        name: as study.yaml has it.
        recall: by query mode and cutoff, with intervals.
        share: of the oracle's R@10, by query mode.
        median: rank, by query mode.
        counterfactual: of each seed that was asked with other texts.
    """

    name: str
    recall: dict[str, dict[int, Interval]]
    share: dict[str, float]
    median: dict[str, float]
    counterfactual: list[Counterfactual]


@dataclass(frozen=True)
class Study:
    """Everything the page and the runs tell.

    Attributes:
        settings: of study.yaml.
        rows: results by (experiment, row).
        oracle: the best possible ranking of the same queries.
        queries: and their resamples.
        pool: facts of the test pools.
        splits: clips by split.
        videos: what the music videos gave; None where their features are absent.
    """

    settings: StudySettings
    rows: dict[tuple[str, str], RowResult]
    oracle: RowResult
    queries: Queries
    pool: PoolFacts
    splits: dict[str, int]
    videos: VideoReport | None

    def recall(self, key: tuple[str, str], mode: str, cutoff: int = 10) -> Interval:
        """Return the recall of a row, averaged over seeds."""
        return self.queries.mean(self.rows[key].hits(mode, cutoff))

    def limit(self, mode: str, cutoff: int = 10) -> float:
        """Return the oracle's recall."""
        return float(self.oracle.hits(mode, cutoff).mean())

    def share(self, key: tuple[str, str], mode: str, cutoff: int = 10) -> float:
        """Return a row's recall as a share of the oracle's."""
        return self.recall(key, mode, cutoff).value / self.limit(mode, cutoff)

    @cached_property
    def tables(self) -> dict[str, list[TableRow]]:
        """Return every table: the page, the figures and the runs all read them, and each interval takes 10,000 resamples."""
        return {letter: self._table(letter) for letter in self.settings.experiments}

    def _table(self, letter: str) -> list[TableRow]:
        out = []
        for row in self.settings.experiments[letter].rows:
            key = (letter, row.name)
            result = self.rows[key]
            modes = [mode for mode in MODES if mode in result.ranks]
            out.append(
                TableRow(
                    name=row.name,
                    recall={mode: {k: self.recall(key, mode, k) for k in CUTOFFS} for mode in modes},
                    share={mode: self.share(key, mode) for mode in modes},
                    median={mode: result.median(mode) for mode in modes},
                    counterfactual=[one.counterfactual for one in result.metrics if one.counterfactual],
                )
            )
        return out

    @cached_property
    def verdicts(self) -> list[Verdict]:
        """Test every claim."""
        return [self._verdict(claim) for claim in self.settings.claims]

    def _verdict(self, claim: Claim) -> Verdict:
        row = self.rows[claim.experiment, claim.row]
        if claim.ratio is not None:
            share = divided(self.queries.mean(row.hits(claim.mode, 10)), self._base(claim))
            return Verdict(claim, share, share.value >= claim.ratio)
        gain = difference(row, self.rows[claim.experiment, claim.against], claim.mode, self.queries)
        held = True if gain.low > 0 else False if gain.high < 0 else None
        return Verdict(claim, gain, held)

    def _base(self, claim: Claim) -> float:
        """Return the R@10 that a claim takes its share of."""
        if claim.against == "oracle":
            return self.limit(claim.mode)
        return float(self.rows[claim.experiment, claim.against].hits(claim.mode, 10).mean())


def read_study(
    settings: StudySettings,
    planned: dict[tuple[str, str], list[Job]],
    results: Path,
    corpus: Corpus,
    videos: VideoReport | None,
) -> Study:
    """Read every result of the plan."""
    import pyarrow.compute as pc

    from components import tables

    first = results / next(iter(planned.values()))[0].name
    manifest = corpus.files["manifest"]
    queries = read_queries(first, manifest)
    rows = {key: read_row([results / job.name for job in jobs], queries) for key, jobs in planned.items()}
    oracle = read_row([first], queries, "oracle.parquet")
    counted = pc.value_counts(tables.read_table(manifest).column("split")).to_pylist()
    splits = {row["values"]: row["counts"] for row in counted}
    return Study(settings, rows, oracle, queries, rows[next(iter(rows))].metrics[0].pool, splits, videos)
