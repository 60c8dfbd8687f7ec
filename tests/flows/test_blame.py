"""`blame` and the costs that `plan` tells: a caption's history, read from files."""

import json
from collections.abc import Callable
from typing import Any

import pyarrow.parquet as pq
import pytest
import yaml

from components import tables
from components.captioning.inputs import read_inputs
from components.captioning.params import CaptioningParams
from components.captioning.progress import caption_clips
from components.captioning.publish import publish
from components.settings import parse_section
from flows.commands import blame
from flows.errors import Refusal
from flows.workspace.graph import load_graph
from flows.workspace.plan import count_cost
from flows.workspace.workspace import Workspace

from .conftest import ROOT, Cli

MakeToy = Callable[[str], Workspace]

GRAPH = f"""
stages:
  tagging:
    cmd: echo --manifest manifest.parquet --tags tags.parquet --scores scores.parquet
    deps: [manifest.parquet]
    outs: [tags.parquet, scores.parquet]
  captioning:
    cmd: >-
      echo --manifest manifest.parquet --tags tags.parquet --annotated annotated.parquet
      --taxonomy {ROOT}/components/taxonomy.yaml --captions captions.parquet --completions completions.parquet
      --quarantine quarantine.parquet
    deps: [tags.parquet]
    params: [captioning]
    outs: [captions.parquet, completions.parquet, quarantine.parquet]
"""
TAGS = [("genres", "folk", 0.9), ("moods", "sad", 0.8), ("instruments", "piano", 0.7)]
NUMBERS = {"bytes": 1, "width": 1, "height": 1, "duration_s": 1.0, "fps": 1.0, "sample_rate_hz": 1, "channels": 1,
           "start_s": 0.0, "end_s": 1.0}  # fmt: skip


def fill(workspace: Workspace, clips: int = 8) -> None:
    """Write what the stages before captioning leave: clips, their tags, and what people said of them."""
    root, ids = workspace.root, [f"clip-{number}" for number in range(clips)]
    blank = dict.fromkeys(tables.MANIFEST.names, "x") | NUMBERS | {"split": "train"}
    rows = [blank | {"clip_id": name, "video_id": f"video of {name}", "uri": f"{name}.mp4"} for name in ids]
    tables.write_rows(root / "manifest.parquet", rows, tables.MANIFEST)
    tags = [{"group": group, "name": name, "probability": value} for group, name, value in TAGS]
    tables.write_rows(root / "tags.parquet", [{"clip_id": name, "tags": tags} for name in ids], tables.TAGS)
    scores = [{"label": tag["name"], "score": 0.5, **tag} for tag in tags]
    scores.append({"label": "80s", "group": None, "name": None, "score": 0.4, "probability": 0.4})
    tables.write_rows(root / "scores.parquet", [{"clip_id": name, "scores": scores} for name in ids], tables.TAG_SCORES)
    said = [{"clip_id": name, "text": f"Sad folk song number {n}", "line": n} for n, name in enumerate(ids)]
    tables.write_rows(root / "annotated.parquet", said, tables.ANNOTATIONS)


@pytest.fixture
def captioned(toy: MakeToy) -> Workspace:
    """A workspace whose one clip was refused once and then captioned."""
    from components.captioning.analogy import Analogy
    from components.captioning.completion import STOP, Completion

    class Model:
        identity = "scripted@1"

        def tokens(self, text: str) -> None:
            return None

        def shared_tokens(self, requests: Any) -> None:
            return None

        def complete(self, requests: Any) -> Any:
            for request in requests:
                yield Completion(request, " Sad folk on piano.\n" if request.attempt else " Happy polka.\n", STOP)

    workspace = toy(GRAPH)
    fill(workspace)
    tree = yaml.safe_load((ROOT / "params.yaml").read_text())
    params = parse_section(CaptioningParams, "captioning", tree)
    root = workspace.root
    inputs = read_inputs(root / "manifest.parquet", root / "tags.parquet", root / "annotated.parquet",
                         ROOT / "components" / "taxonomy.yaml")  # fmt: skip
    captions, completions = root / "captions.parquet", root / "completions.parquet"
    captioner = Analogy(params, inputs.sources(captions, completions), Model())
    made = caption_clips(inputs.clips, params.kind, captioner, captions, completions)
    publish(made, captions, completions, root / "quarantine.parquet")
    return workspace


def test_the_whole_way_of_a_caption_is_told(captioned: Workspace, capsys: pytest.CaptureFixture[str]) -> None:
    traced = blame.trace(captioned, "clip-3")
    assert traced["caption"]["text"] == "Sad folk on piano." and traced["caption"]["attempts"] == 2
    assert [attempt["reasons"] == [] for attempt in traced["attempts"]] == [False, True]
    assert traced["attempts"][0]["raw"] == " Happy polka.\n"
    assert traced["attempts"][0]["prompt"].endswith(
        "[Input]: GENRES: folk (90.0%); MOODS: sad (80.0%); INSTRUMENTS: piano (70.0%)\n[Output]:"
    )
    assert traced["judgement"]["recall"] == 1.0 and len(traced["scores"]) == 4
    json.dumps(traced)
    blame.show(traced)
    said = capsys.readouterr().out
    for words in ("not in the taxonomy", "' Happy polka.\\n'", "refused: ", "passed every check", "scripted@1"):
        assert words in said


def test_a_clip_is_found_by_several_names(captioned: Workspace) -> None:
    assert blame.trace(captioned, "clip-5.mp4")["clip"]["clip_id"] == "clip-5"
    assert blame.trace(captioned, "video of clip-5")["clip"]["clip_id"] == "clip-5"
    with pytest.raises(Refusal, match="8 clips go by 'clip-'"):
        blame.trace(captioned, "clip-")
    with pytest.raises(Refusal, match="no clip of the manifest is called 'nobody'"):
        blame.trace(captioned, "nobody")


def test_before_the_first_run_it_says_what_to_do(toy: MakeToy, here: Cli) -> None:
    done = here("blame", "x", cwd=toy(GRAPH).root)
    assert (
        done.returncode == 1
        and done.stderr == "error: manifest.parquet is not there yet; run `needledrop retrain` first\n"
    )


def test_a_plan_counts_what_would_be_asked(toy: MakeToy) -> None:
    """Eight clips with the same tags: the prompts differ by their exemplars only."""
    workspace = toy(GRAPH)
    fill(workspace)
    (workspace.root / "components").symlink_to(ROOT / "components")
    graph = load_graph(workspace.root)
    params = parse_section(CaptioningParams, "captioning", yaml.safe_load((ROOT / "params.yaml").read_text()))

    class Everything:
        captioning = params

    graph.pending.pop("tagging", None)
    cost = count_cost(graph, graph["captioning"], Everything, workspace.root)  # type: ignore[arg-type]
    assert cost["clips"] == 8 and 1 <= cost["prompts"] <= 8 and cost["prompt_tokens"] > cost["shared_tokens"] >= 0
    assert cost["answer_tokens"] == cost["prompts"] * params.decoding.max_new_tokens
    assert not (workspace.root / "captions.parquet").exists()
    assert pq.ParquetFile(workspace.root / "tags.parquet").metadata.num_rows == 8


def test_a_plan_waits_for_the_tags(toy: MakeToy) -> None:
    workspace = toy(GRAPH)
    fill(workspace)
    graph = load_graph(workspace.root)
    assert count_cost(graph, graph["captioning"], None, workspace.root) == {"said": "known after tagging"}  # type: ignore[arg-type]
