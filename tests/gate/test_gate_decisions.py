"""Gates of real model versions: what is written where, once, and what is refused with nothing changed."""

import hashlib
import json
import shutil
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from components.tables import write_rows
from flows.errors import GATE_FAILED, Refusal
from flows.gate.compare import compare
from flows.gate.evidence import EVIDENCE_TAG, VERDICT_TAG, holds, this_machine
from flows.gate.report import read_report
from flows.gate.run import GateResult, run_gate
from flows.gate.settings import read_settings
from flows.registry.tracking import MODEL
from flows.release.clips import CLIPS as CLIPS_TABLE
from flows.release.clips import FOLDER, SCHEMA
from flows.release.unit import ArtifactsGone

from .conftest import CLIPS, TEST, Works, manifest


def clip_row(row: dict[str, Any]) -> dict[str, Any]:
    """What a run keeps of a clip of the manifest."""
    flags = dict.fromkeys(("trained", "described", "indexed"), True)
    return {name: row.get(name) for name in SCHEMA.names} | flags | {"exemplar_ids": []}


def gate(works: Works, version: int | None = None) -> GateResult:
    return run_gate(works.graph, works.platform, version)


@pytest.fixture(scope="module")
def first(clean: Works) -> GateResult:
    """Of version 1, the only one yet."""
    clean.register(1)
    return gate(clean)


def test_a_first_champion_then_a_challenger_each_gated_once(clean: Works, first: GateResult) -> None:
    # Random weights are at chance, which the floor is just above: never shown to pass.
    assert (first.version, first.champion) == (1, None) and first.verdict in ("failed", "inconclusive")
    assert [check.key for check in first.checks] == ["chance"]
    gated = clean.release(1)
    assert (gated.state, gated.evidence) == (first.verdict, first.evidence)
    assert first.evidence == hashlib.sha256(Path(first.report).read_bytes()).hexdigest()

    begun, policy = read_settings(clean.workspace.root), clean.workspace.root / "gate.yaml"
    text = policy.read_text()
    policy.write_text(text.replace("times_chance: 1.01", "times_chance: 1.02"))
    held = run_gate(clean.graph, clean.platform, 1, begun)
    policy.write_text(text)
    assert held.known and held.evidence == first.evidence, "a run's gate holds to the settings of its start"

    again = gate(clean, 1)
    assert again.known and not first.known and again.evidence == first.evidence
    shutil.rmtree(clean.workspace.reports)
    restored = gate(clean, 1)
    assert restored.known and Path(restored.page).is_file(), "it comes back from the run"
    assert clean.release(1) == gated
    mlflow = clean.client
    logged = {item.path for item in mlflow.list_artifacts(gated.run_id, f"gate/{first.evidence[:12]}")}
    assert {Path(path).name for path in logged} == {"report.json", "report.html"}
    made = [item.path for item in mlflow.list_artifacts(gated.run_id, "gate")]
    assert len([path for path in made if "ranks-" not in path]) == 1, "written once"
    version = mlflow.get_model_version(MODEL, "1")
    assert (version.tags[VERDICT_TAG], version.tags[EVIDENCE_TAG]) == (first.verdict, first.evidence)
    assert "gate report" in version.description.lower()


@pytest.fixture(scope="module")
def reigning(clean: Works, first: GateResult) -> Works:
    """Version 1 is champion, version 2 the challenger."""
    path = clean.workspace.root / "gate.yaml"
    settings = path.read_text()
    path.write_text(settings.replace("seed: 7", "seed: 8"))  # another question
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("flows.gate.statistics.floor", lambda *_: "passed")
        assert gate(clean, 1).verdict == "passed"
    path.write_text(settings)
    clean.crown(1)
    clean.register(2)
    return clean


def test_the_challenger_is_held_against_the_champion_on_the_same_queries(reigning: Works) -> None:
    result = gate(reigning)  # the challenger by default
    assert (result.version, result.champion) == (2, 1)
    keys = [check.key for check in result.checks]
    assert keys == ["superiority", "video", "text", "worst_slice", "slices", "coverage", "latency"] or keys == [
        "superiority", "video", "text", "worst_slice", "coverage", "latency",
    ]  # fmt: skip
    report = read_report(Path(result.report).read_bytes(), "the report")
    assert (report.data.queries, report.data.clusters) == (TEST, TEST // 2)
    assert report.other is not None
    assert [side.facts["digest"] for side in (report.challenger, report.other)] == ["content 2", "content 1"]
    assert json.loads(json.dumps(result.as_json()))["checks"][0]["key"] == "superiority"
    assert reigning.release(2).against == 1
    page = Path(result.page).read_text()
    assert "version 2" in page and "version 1" in page and "words of clip-" in page


def test_a_new_settings_file_is_a_new_question(reigning: Works) -> None:
    first = gate(reigning, 2)
    path = reigning.workspace.root / "gate.yaml"
    path.write_text(path.read_text().replace("minimum_effect: 0.01", "minimum_effect: 0.02"))
    second = gate(reigning, 2)
    assert not second.known and second.evidence != first.evidence
    assert reigning.release(2).evidence == second.evidence


def test_refusals_name_the_next_step_and_change_nothing(reigning: Works) -> None:
    path = reigning.workspace.root / "gate.yaml"
    settings = path.read_text()
    path.write_text(settings.replace("seed: 7", "seed: 9"))  # not gated with this yet
    before = reigning.release(2)

    def refused(match: str, version: int | None = None, code: int = 1) -> None:
        with pytest.raises(Refusal, match=match) as refusal:
            gate(reigning, version)
        assert refusal.value.code == code and "\n" not in str(refusal.value)
        assert reigning.release(2) == before

    refused("no version 9 in the ledger; there is 1, 2", 9)
    refused("version 1 is the champion: there is nothing to hold it against", 1)
    other = dict(reigning.specs) | {"video": "0" * 64}
    reigning.register(3, other)
    refused("the code of version 3 failed while loading: this version's video extractor is not the one its model", 3)
    reigning.register(1)
    refused("version 4 holds the very model of champion version 1", 4, GATE_FAILED)

    weights = reigning.folder(1) / "artifacts/model/model.safetensors"
    kept = weights.read_bytes()
    weights.unlink()
    refused("the champion cannot be evaluated: .*its artifacts are gone.*needledrop rollback.*`needledrop retire 1`", 2)
    with pytest.raises(ArtifactsGone):
        gate(reigning, 2)
    weights.write_bytes(kept[:-1] + b"x")
    refused("the champion cannot be evaluated: ", 2)
    weights.write_bytes(kept)
    code = reigning.folder(1) / "code.py"
    code.write_text("K = 11\n")
    refused("the champion cannot be evaluated: version 1: its logged files are not what was registered", 2)
    code.unlink()
    pickled = reigning.folder(1) / "artifacts/model/extra.pkl"
    pickled.write_bytes(b"x")
    refused("champion cannot be evaluated: .*extra.pkl in the model's folder is pickled", 2)
    pickled.unlink()
    manifest = reigning.workspace.root / "data/manifest.parquet"
    moved = manifest.rename(manifest.with_suffix(".away"))
    refused("the test set cannot be read: .*needledrop retrain", 2)
    moved.rename(manifest)
    path.write_text(settings)


def test_test_clips_that_a_version_learnt_from_are_left_out(reigning: Works, tmp_path: Path) -> None:
    """The challenger of another workspace, whose splits were others: ten of today's test clips taught it."""
    release = reigning.register(5)
    splits = ["train"] * 8 + ["val"] * 2 + ["test"] * (CLIPS - 10)
    rows = [row | {"split": split} for row, split in zip(manifest(), splits, strict=True)]
    write_rows(tmp_path / CLIPS_TABLE, [clip_row(row) for row in rows], SCHEMA, sort_by=("split", "clip_id"))
    reigning.client.log_artifact(release.run_id, str(tmp_path / CLIPS_TABLE), FOLDER)
    result = gate(reigning, release.version)
    report = read_report(Path(result.report).read_bytes(), "the report")
    assert report.data.queries == TEST - 10 and report.data.left_out is not None
    assert sorted(report.data.left_out) == [f"clip-{at:02d}" for at in range(10)]
    name = f"version {release.version}"
    assert report.data.left_out["clip-09"] == f"{name} chose its checkpoint by it"
    assert f"10 of {TEST} test clips are not compared on" in result.words.found
    page = Path(result.page).read_text()
    assert "10 test clips that are not compared on" in page and "clip-09" in page


def test_a_verdict_on_time_holds_for_a_day_and_a_machine(reigning: Works) -> None:
    result = gate(reigning, 2)
    assert gate(reigning, 2).known
    report = read_report(Path(result.report).read_bytes(), "the report")
    made, machine = datetime.fromisoformat(report.provenance.made), this_machine()
    assert holds(report, machine, made + timedelta(hours=23)) and not holds(report, machine, made + timedelta(hours=25))
    assert not holds(report, "another", made + timedelta(hours=1))
    assert not holds(report, machine, made - timedelta(hours=1)), "the clock was ahead, so its age is not known"
    first = report.model_copy(update={"checks": report.checks[:1]})
    assert holds(first, "another", made + timedelta(days=900)), "ranks are the same on every day"


def test_two_versions_whose_runs_logged_no_ranks_cannot_be_compared(reigning: Works) -> None:
    with pytest.raises(Refusal, match="has no ranks to compare"):
        compare(reigning.platform, "1", "2", None)
    with pytest.raises(Refusal, match="there is no version 7"):
        compare(reigning.platform, "7", "2", None)
    with pytest.raises(Refusal, match="neither a version's number nor a run's id"):
        compare(reigning.platform, "../x", "2", None)


def test_a_report_that_was_changed_in_the_store_is_refused(reigning: Works) -> None:
    result = gate(reigning, 2)
    (path,) = reigning.workspace.mlflow_artifacts.rglob(f"gate/{result.evidence[:12]}/report.json")
    path.write_text(path.read_text().replace("verdict", "Verdict", 1))
    with pytest.raises(Refusal, match="is not the one that was logged"):
        gate(reigning, 2)
