"""The study's tables as numbers: per row and query mode, recall with its interval and its share of the oracle."""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from components.encoder.embed import MODES
from components.evaluation.bootstrap import Interval
from research.corpus import Corpus
from research.jobs import Job
from research.results import CUTOFFS, Measured, Queries, difference, read_measured, read_queries
from research.settings import Claim, StudySettings

FUSED = "video+text"


@dataclass(frozen=True)
class Verdict:
    """A claim and what became of it.

    Attributes:
        claim: as study.yaml has it.
        found: the figure with its interval.
        held: True: the interval lies beyond the mark; False: the figure misses it; None: undecided.
    """

    claim: Claim
    found: Interval
    held: bool | None


@dataclass(frozen=True)
class Study:
    """Everything the page and the runs tell.

    Attributes:
        settings: of study.yaml.
        rows: results by (experiment, row).
        oracle: the best possible ranking of the same queries.
        queries: and their resamples.
        pool: facts of the test pools (metrics.json, key ``pool``).
        splits: clips by split.
        videos: what the music videos gave; None where their features are absent.
    """

    settings: StudySettings
    rows: dict[tuple[str, str], Measured]
    oracle: Measured
    queries: Queries
    pool: dict[str, Any]
    splits: dict[str, int]
    videos: dict[str, Any] | None

    def recall(self, key: tuple[str, str], mode: str, cutoff: int = 10) -> Interval:
        """Return the recall of a row, averaged over seeds."""
        return self.queries.mean(self.rows[key].hits(mode, cutoff))

    def limit(self, mode: str, cutoff: int = 10) -> float:
        """Return the oracle's recall."""
        return float(self.oracle.hits(mode, cutoff).mean())

    def share(self, key: tuple[str, str], mode: str, cutoff: int = 10) -> float:
        """Return a row's recall as a share of the oracle's."""
        return self.recall(key, mode, cutoff)["value"] / self.limit(mode, cutoff)

    @cached_property
    def tables(self) -> dict[str, list[dict[str, Any]]]:
        """Return every table as plain values: per row an Interval per mode and cutoff, shares, medians.

        The page, the figures and the runs all read them, and each interval takes 10,000 resamples.
        """
        return {letter: self._table(letter) for letter in self.settings.experiments}

    def _table(self, letter: str) -> list[dict[str, Any]]:
        out = []
        for row in self.settings.experiments[letter].rows:
            key = (letter, row.name)
            measured = self.rows[key]
            modes = [mode for mode in MODES if mode in measured.ranks]
            out.append(
                {
                    "row": row.name,
                    "seeds": len(measured.folders),
                    "recall": {mode: {k: self.recall(key, mode, k) for k in CUTOFFS} for mode in modes},
                    "share": {mode: self.share(key, mode) for mode in modes},
                    "median": {mode: measured.median(mode) for mode in modes},
                    "counterfactual": [report.get("counterfactual", {}) for report in measured.reports],
                    "cpu_s": [job["cpu_s"] for job in measured.jobs],
                }
            )
        return out

    @cached_property
    def verdicts(self) -> list[Verdict]:
        """Judge every claim."""
        return [self._judge(claim) for claim in self.settings.claims]

    def _judge(self, claim: Claim) -> Verdict:
        mine = self.rows[claim.experiment, claim.row]
        if claim.against == "oracle":
            limit = self.limit(claim.mode)
            found = {
                name: value / limit for name, value in self.recall((claim.experiment, claim.row), claim.mode).items()
            }
        elif claim.ratio is not None:
            base = self.rows[claim.experiment, claim.against].hits(claim.mode, 10).mean()
            found = {name: value / base for name, value in self.queries.mean(mine.hits(claim.mode, 10)).items()}
        else:
            found = difference(mine, self.rows[claim.experiment, claim.against], claim.mode, self.queries)
        if claim.ratio is not None:
            return Verdict(claim, found, found["value"] >= claim.ratio)
        held = True if found["low"] > 0 else False if found["high"] < 0 else None
        return Verdict(claim, found, held)


def read_study(
    settings: StudySettings,
    planned: dict[tuple[str, str], list[Job]],
    results: Path,
    corpus: Corpus,
    videos: dict[str, Any] | None,
) -> Study:
    """Read every result of the plan."""
    import pyarrow.compute as pc

    from components import tables

    first = results / next(iter(planned.values()))[0].name
    manifest = corpus.files["manifest"]
    queries = read_queries(first, manifest)
    rows = {key: read_measured([results / job.name for job in jobs], queries) for key, jobs in planned.items()}
    oracle = read_measured([first], queries, "oracle.parquet")
    counted = pc.value_counts(tables.read_table(manifest).column("split")).to_pylist()
    splits = {row["values"]: row["counts"] for row in counted}
    return Study(settings, rows, oracle, queries, rows[next(iter(rows))].reports[0]["pool"], splits, videos)
