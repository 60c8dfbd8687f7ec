"""docs/study.md from the study's figures: what was measured, what held, what it cost."""

from collections.abc import Iterator
from pathlib import Path

from components.evaluation.metrics_file import FUSED, MODES, Counterfactual
from components.stage import atomic_file
from research.figures import draw
from research.gpu import gpu_lines
from research.music_video_report import VideoReport
from research.results import bracketed
from research.tables import Study, TableRow, Verdict

PAGE = "study.md"
_WORDS = {True: "held", False: "did not hold", None: "not decided"}


def write_page(study: Study, docs: Path) -> Path:
    """Write the page and its figures into ``docs``; return the page."""
    docs.mkdir(parents=True, exist_ok=True)
    figures = draw(study, docs)
    with atomic_file(docs / PAGE) as part:
        part.write_text("\n".join([*_lines(study, figures), *_ending(study, docs)]) + "\n", encoding="utf-8")
    return docs / PAGE


def _lines(study: Study, figures: dict[str, Path]) -> Iterator[str]:
    pool, splits = study.pool, study.splits
    seeds = len(study.settings.seeds)
    yield "# Study"
    yield "Written by `needledrop study` from `research/study.yaml`; do not edit, run it again."
    yield ""
    yield (
        f"Demo corpus with {splits['train']} train, {splits['val']} val and {splits['test']} test clips. "
        f"{pool.queries} test queries in {pool.pools} pools of {pool.size} tracks that share no clip; test texts are "
        f"human-like descriptions, train texts are captions unless a row says otherwise. Chance R@10 is "
        f"{pool.chance.recall_at_10:.3f}, chance median rank {pool.chance.median_rank:g}. Trained rows are means of "
        f"{seeds} seeds unless noted; brackets are 95 % intervals over artists (10,000 resamples). Video to music, whole tracks."
    )
    yield ""
    yield "## What held"
    yield "| claim | figure | verdict |"
    yield "|---|---|---|"
    for verdict in study.verdicts:
        yield f"| {verdict.claim.says} | {_figure(verdict)} | **{_WORDS[verdict.held]}** |"
    for letter, experiment in study.settings.experiments.items():
        yield ""
        yield f"## {letter}. {experiment.title}"
        yield from _table(study, letter)
        if letter in figures:
            yield ""
            yield f"![{experiment.title}]({figures[letter].name})"
        if experiment.remark:
            yield ""
            yield experiment.remark.strip()
    yield ""
    yield "## Real music videos"
    yield from _videos(study.videos)


def _ending(study: Study, docs: Path) -> Iterator[str]:
    yield ""
    yield "## On a GPU"
    yield from gpu_lines(docs)
    yield ""
    yield "## What it cost"
    yield from _cost(study)


def _figure(verdict: Verdict) -> str:
    claim, estimate = verdict.claim, verdict.estimate
    what = f"{claim.row}, R@10 of {claim.mode}"
    if claim.ratio is not None:
        return f"{what}: {bracketed(estimate, 2)} of {claim.against}, asked {claim.ratio:g}"
    return f"{what}: {bracketed(estimate, sign=True)} against {claim.against}"


def _table(study: Study, letter: str) -> Iterator[str]:
    rows = study.tables[letter]
    first = letter == next(iter(study.settings.experiments))
    heads = ["video R@10", "text R@10", "video + text R@10", "of the oracle (v, t, v+t)", "R@1", "R@5", "median rank"]
    heads += ["other text: own, its track"] if first else []
    yield "| row | " + " | ".join(heads) + " |"
    yield "|---" * (len(heads) + 1) + "|"
    for row in rows:
        cells = [_cell(row, mode) for mode in MODES]
        cells.append(", ".join(f"{row.share[mode]:.2f}" if mode in row.share else "-" for mode in MODES))
        cells += [f"{row.recall[FUSED][k].value:.3f}" if FUSED in row.recall else "-" for k in (1, 5)]
        cells.append(f"{row.median[FUSED]:g}" if FUSED in row.median else "-")
        cells += [_counterfactual(row.counterfactual)] if first else []
        yield f"| {row.name} | " + " | ".join(cells) + " |"
    if first:
        limits = [study.limit(mode) for mode in MODES]
        cells = [*(f"{limit:.3f}" for limit in limits), "1, 1, 1", *(f"{study.limit(FUSED, k):.3f}" for k in (1, 5))]
        cells += [f"{study.oracle.median(FUSED):g}", "-"]
        yield "| oracle | " + " | ".join(cells) + " |"
        yield ""
        yield (
            "*Other text*: the same video with another track's description; share of queries whose own track, and "
            "whose text's track, is among the first ten."
        )


def _cell(row: TableRow, mode: str) -> str:
    return bracketed(row.recall[mode][10]) if mode in row.recall else "-"


def _counterfactual(seeds: list[Counterfactual]) -> str:
    if not seeds:
        return "-"
    own = sum(one.own.recall_at_10.value for one in seeds) / len(seeds)
    donor = sum(one.donor.recall_at_10.value for one in seeds) / len(seeds)
    return f"{own:.3f}, {donor:.3f}"


def _videos(videos: VideoReport | None) -> Iterator[str]:
    if videos is None:
        yield "Left out: the features of MuVi-Sync were not given (`needledrop study --music-videos FOLDER`)."
        return
    yield from videos.lines()


def _cost(study: Study) -> Iterator[str]:
    jobs = {folder.name: job for row in study.rows.values() for folder, job in zip(row.folders, row.jobs, strict=True)}
    trained = [job for job in jobs.values() if job["fit"] == "trimodal"]
    seconds = sum(job["cpu_s"] for job in jobs.values())
    yield (
        f"{len(jobs)} fits with their evaluation ({len(trained)} trainings), {seconds / 60:.0f} CPU minutes; "
        f"{sum(job['cpu_s'] for job in trained) / max(1, len(trained)):.0f} CPU seconds a training."
    )
