"""Files by way of the real S3 service: DVC's remote, MLflow's artifacts, the corpus; also when every fifth request fails."""

import hashlib
import os
import random
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from infra.state import State
from infra.swift import s3_client
from tests.stack.commands import ended, needledrop, start
from tests.stack.fault_proxy import FaultProxy
from tests.stack.shared_project import FILES, checksums, clone, make_project

pytestmark = pytest.mark.stack

SHARE = 0.2

# Logs a folder and brings it back; the address of the run's artifacts is its last line.
LOG_AND_FETCH = """
import sys, mlflow
mlflow.set_experiment("artifacts")
with mlflow.start_run() as run:
    mlflow.log_artifacts("out", "files")
mlflow.artifacts.download_artifacts(run_id=run.info.run_id, artifact_path="files", dst_path="back")
print(run.info.artifact_uri)
"""


@pytest.fixture(params=["undisturbed", "every fifth request fails"])
def proxy(request: pytest.FixtureRequest, stack: State) -> Iterator[FaultProxy]:
    """The way to the S3 service."""
    share = 0.0 if request.param == "undisturbed" else SHARE
    with FaultProxy(stack.s3_endpoint, share, seed=5) as made:
        yield made
        assert made.requests > 0, "nothing went this way"
        assert share == 0.0 or sum(made.faults.values()) > 0.1 * made.requests


@pytest.fixture
def environment(stack_environment: dict[str, str], proxy: FaultProxy, tmp_path: Path) -> dict[str, str]:
    # A prefix of its own: what another test pushed must not be found.
    return stack_environment | {
        "AWS_ENDPOINT_URL": proxy.url,
        "NEEDLEDROP_DVC_REMOTE": f"s3://needledrop-dvc/{tmp_path.name}",
    }


def digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def files(folder: Path) -> dict[str, str]:
    return {str(path.relative_to(folder)): digest(path.read_bytes()) for path in folder.rglob("*") if path.is_file()}


def test_push_and_pull_bring_equal_files(tmp_path: Path, environment: dict[str, str]) -> None:
    project = make_project(tmp_path / "project", seed=random.Random(tmp_path.name).randrange(10**9))
    said = ended(start(needledrop("push"), project, environment))
    assert f"{FILES + 2} files sent" in said
    other = clone(project, tmp_path / "clone")
    ended(start(needledrop("pull"), other, environment))
    assert checksums(other) == checksums(project)
    assert "0 files sent" in ended(start(needledrop("push"), project, environment))
    assert environment["AWS_SECRET_ACCESS_KEY"] not in "".join(
        path.read_text(errors="replace") for path in (project / ".dvc").glob("config*")
    )


def test_artifacts_go_straight_to_s3_and_come_back_equal(
    tmp_path: Path, environment: dict[str, str], stack: State
) -> None:
    draw = random.Random(1)
    for number in range(12):
        path = tmp_path / "out" / f"{number % 3}" / f"{number}.safetensors"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(draw.randbytes(draw.randrange(1, 300_000)))
    address = ended(start(["-c", LOG_AND_FETCH], tmp_path, environment)).splitlines()[-1]
    assert address.startswith("s3://needledrop-mlflow/")
    assert files(tmp_path / "back" / "files") == files(tmp_path / "out")
    bucket, _, prefix = address.removeprefix("s3://").partition("/")
    client = s3_client(stack)
    there = client.list_objects_v2(Bucket=bucket, Prefix=f"{prefix}/files/")["Contents"]
    stored = {
        item["Key"].removeprefix(f"{prefix}/files/"): digest(
            client.get_object(Bucket=bucket, Key=item["Key"])["Body"].read()
        )
        for item in there
    }
    assert stored == files(tmp_path / "out")


def test_a_corpus_is_fetched_from_a_bucket(tmp_path: Path, environment: dict[str, str], stack: State) -> None:
    from components.corpus.build import build_corpus
    from components.corpus.listing import observe
    from components.corpus.params import S3Corpus

    draw, prefix, client = random.Random(2), f"{tmp_path.name}/clips/", s3_client(stack)
    media = {f"{prefix}{number}.mp4": draw.randbytes(draw.randrange(1, 200_000)) for number in range(40)}
    for key, body in media.items():
        client.put_object(Bucket="needledrop-media", Key=key, Body=body)
    (tmp_path / "seed_tags.csv").write_text("path,group,name\n")
    fields: dict[str, Any] = {
        "kind": "s3", "bucket": "needledrop-media", "prefix": prefix, "attempts": 8, "backoff_s": 0.1, "licence": None,
        "source": str(tmp_path / "listing.json"), "annotations": None, "seed_tags": str(tmp_path / "seed_tags.csv"),
        "seed": 1, "seed_clips": 20, "clip_s": 4.0, "workers": 4,
    }  # fmt: skip
    section = S3Corpus.model_validate(fields)
    before = dict(os.environ)
    os.environ.update(environment)
    try:
        assert observe(section)
        collected = build_corpus(section, Path(section.source), tmp_path / "media", tmp_path / "seed")
        assert not observe(section), "the second look finds the same"
    finally:
        os.environ.clear()
        os.environ.update(before)
    assert len(collected.inventory) == len(media)
    fetched = {key: digest((tmp_path / "media" / key).read_bytes()) for key in media}
    assert fetched == {key: digest(body) for key, body in media.items()}


def test_a_registered_model_is_in_s3_with_the_bytes_of_the_workspace(
    tmp_path: Path, stack_environment: dict[str, str], stack: State
) -> None:
    from flows.workspace.graph import load_graph
    from flows.workspace.workspace import Workspace
    from tests.flows.conftest import ROOT
    from tests.flows.results import commit_results, write_results

    workspace = Workspace(tmp_path / "workspace")
    workspace.root.mkdir()
    from dvc.repo import Repo

    Repo.init(str(workspace.root), no_scm=True).close()
    shutil.copytree(ROOT / "components", workspace.root / "components", ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("dvc.yaml", "params.yaml"):
        shutil.copy(ROOT / name, workspace.root)
    graph = load_graph(workspace.root)
    write_results(graph, workspace)
    commit_results(graph, workspace)
    model = workspace.root / graph["training"].argument("model") / "model.safetensors"
    ended(start(needledrop("register"), workspace.root, stack_environment))
    # Once more: the same content is the same version.
    ended(start(needledrop("register"), workspace.root, stack_environment))

    client = s3_client(stack)
    keys = [
        item["Key"]
        for page in client.get_paginator("list_objects_v2").paginate(Bucket="needledrop-mlflow")
        for item in page.get("Contents", [])
        if item["Key"].endswith("model.safetensors")
    ]
    stored = [digest(client.get_object(Bucket="needledrop-mlflow", Key=key)["Body"].read()) for key in keys]
    assert stored.count(digest(model.read_bytes())) == 1
