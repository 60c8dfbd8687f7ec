"""The study as a flow: make the corpus, measure every row, write the page, log the runs."""

import json
import sys
import threading
from dataclasses import asdict
from pathlib import Path

from prefect import flow, task
from prefect.cache_policies import NO_CACHE

from flows.errors import Refusal
from flows.workspace.begin import begin
from flows.workspace.processes import Processes
from flows.workspace.terminal import Terminal
from flows.workspace.workspace import Workspace
from research.corpus import Corpus, prepare
from research.jobs import Job, name_of_music_videos, plan_jobs
from research.music_video_report import VideoReport
from research.page import write_page
from research.record import record_study
from research.settings import StudySettings, read_settings
from research.tables import Study, read_study

Planned = dict[tuple[str, str], list[Job]]


@flow(name="study", retries=0, persist_result=False)
def study(root: Path, music_videos: Path | None = None, to_stderr: bool = False) -> dict[str, str]:
    """Measure what study.yaml asks for; results that exist already are kept.

    Args:
        root: the workspace.
        music_videos: folder of the MuVi-Sync features; None leaves that part out, and the page says so.
        to_stderr: show progress on standard error.

    Returns:
        where the page and the runs are.

    Raises:
        Refusal: a wrong study.yaml, a busy workspace, or a row that failed.
    """
    workspace, terminal = Workspace(root), Terminal(to_stderr)
    try:
        settings = read_settings()
    except ValueError as error:
        raise Refusal(str(error)) from None
    with begin(workspace) as run:
        processes = Processes(run.id)
        try:
            corpus = prepare_task(workspace, settings, processes, terminal)
            planned = plan_jobs(settings, corpus, root)
            measure_all(planned, corpus, workspace, settings, processes, terminal)
            videos = music_videos_task(workspace, music_videos, processes, terminal) if music_videos else None
        except BaseException:
            processes.stop()
            raise
        result = read_study(settings, planned, results_folder(workspace), corpus, videos)
        page = write_page(result, root / "docs")
        where = record_task(result, page, workspace)
        terminal.say(f"\nstudy: {page.relative_to(root)}; runs: {where}")
        run.finish("finished")
        return {"page": str(page), "runs": where}


@task(name="study corpus", cache_policy=NO_CACHE, retries=0, persist_result=False)
def prepare_task(workspace: Workspace, settings: StudySettings, processes: Processes, terminal: Terminal) -> Corpus:
    """Bring the study's own corpus up to date."""
    return prepare(workspace, settings, processes, lambda line: terminal.stage_line("study corpus", line))


def measure_all(
    planned: Planned, corpus: Corpus, workspace: Workspace, settings: StudySettings, processes: Processes,
    terminal: Terminal,
) -> None:  # fmt: skip
    """Run every job that has no result yet: first those that others build on.

    Raises:
        Refusal: a job failed; those that run may end.
    """
    folder = results_folder(workspace)
    jobs = {job.name: (job, f"{letter} {row}, seed {job.seed}") for (letter, row), of in planned.items() for job in of}
    missing = [(job, title) for name, (job, title) in jobs.items() if not (folder / name / "job.json").is_file()]
    terminal.say(f"study: {len(jobs)} fits, {len(jobs) - len(missing)} of them known")
    places = threading.Semaphore(settings.processes)
    for parts in (False, True):
        futures = [
            measure_task.with_options(task_run_name=title).submit(
                job, title, corpus, workspace, processes, places, terminal
            )
            for job, title in missing
            if bool(job.parts) == parts
        ]
        for future in futures:
            future.result()


@task(name="study row", cache_policy=NO_CACHE, retries=0, persist_result=False)
def measure_task(
    job: Job, title: str, corpus: Corpus, workspace: Workspace, processes: Processes, places: threading.Semaphore,
    terminal: Terminal,
) -> None:  # fmt: skip
    """Fit and evaluate one job in a process of its own."""
    folder = results_folder(workspace)
    asked = folder / f"{job.name}.json"
    asked.parent.mkdir(parents=True, exist_ok=True)
    files = {name: str(path) for name, path in (corpus.files | {"text": corpus.texts[job.text]}).items()}
    parts = [str(folder / part) for part in job.parts]
    document = asdict(job) | {"title": title, "parts": parts, "files": files, "out": str(folder / job.name)}
    asked.write_text(json.dumps(document), encoding="utf-8")
    tail: list[str] = []
    with places:
        terminal.say(f"study: {title}")
        command = [sys.executable, "-m", "research.work", str(asked)]
        status = processes.run(command, workspace.root, lambda line: tail.append(line))
    if status:
        last = "".join(f"\n    {line}" for line in tail[-12:] if line.strip())
        raise Refusal(f"study: {title} ended with {status}; its last lines:{last}")
    asked.unlink()


@task(name="study music videos", cache_policy=NO_CACHE, retries=0, persist_result=False)
def music_videos_task(workspace: Workspace, folder: Path, processes: Processes, terminal: Terminal) -> VideoReport:
    """Run the part on real music videos in a process of its own, unless its result is known."""
    out = results_folder(workspace) / f"music-videos-{name_of_music_videos(workspace.root, folder)}.json"
    out.parent.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, "-m", "research.music_videos", str(folder), "--out", str(out)]
    known = out.is_file()
    if not known and processes.run(command, workspace.root, lambda line: terminal.stage_line("music videos", line)):
        raise Refusal(f"study: the part on music videos failed; run {' '.join(command[1:])} to see why")
    return VideoReport.model_validate_json(out.read_text(encoding="utf-8"))


@task(name="study record", cache_policy=NO_CACHE, retries=2, retry_delay_seconds=10, persist_result=False)
def record_task(result: Study, page: Path, workspace: Workspace) -> str:
    """Log the study's runs to MLflow."""
    return record_study(result, page, workspace)


def results_folder(workspace: Workspace) -> Path:
    """Return where results are kept, by name."""
    return workspace.state / "study" / "results"
