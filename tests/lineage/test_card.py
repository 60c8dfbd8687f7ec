"""Lineage in one answer, and the model card that is made of it."""

import re
import shutil
from pathlib import Path

import pytest
import yaml

from components.evaluation.metrics_file import write_metrics
from flows.errors import Refusal
from flows.lineage.card import card, cell, log_card, write_card
from flows.lineage.chain import chain, show
from tests.evaluation.made_metrics import made_metrics

from .conftest import COMMIT, Shelf


def test_the_chain_leads_from_data_to_release(shelf: Shelf, capsys: object) -> None:
    made = chain(shelf.platform, "models:/needledrop@champion")
    assert (made["version"], made["aliases"], made["digest"]) == (1, ["champion"], "1" * 64)
    assert (made["data"]["manifest"], made["commit"], made["dirty"]) == ("a" * 32, COMMIT, "false")
    assert (made["release"]["state"], made["release"]["approved_by"]) == ("champion", "Ada")
    assert show(made) == 0


def test_a_version_without_a_ledger_row_is_said(shelf: Shelf) -> None:
    assert chain(shelf.platform, "2")["release"] is None


def test_a_card_has_valid_metadata_and_every_section(shelf: Shelf, tmp_path: Path) -> None:
    from huggingface_hub import ModelCard

    text = card(shelf.platform, "1")
    write_card(tmp_path / "README.md", text)
    data = ModelCard.load(tmp_path / "README.md").data
    results = data.eval_results
    assert [result.metric_value for result in results] == [0.7, 0.7, 0.7]
    assert results[0].dataset_revision == "a" * 32
    for words in (
        "12 clips: 6 train, 3 val, 3 test; 1 with a human description",
        "| CC0-1.0 | 12 |",
        "| video+text | 0.700 | 0.700 | 0.600 to 0.800 | 14.0 | 0.7 |",
        "**Version 1 clears the floors.** R@10 0.700. Approve it.",
        "champion, approved by Ada at",
        f"`{COMMIT}`",
        "| beats \\| chance | 14 times | 3 times | passed |",
        'mlflow.pyfunc.load_model("models:/needledrop/1")',
    ):
        assert words in text, words


def test_no_value_is_left_blank(shelf: Shelf) -> None:
    for version in ("1", "2"):
        body = card(shelf.platform, version).split("---\n", 2)[2].partition("## How to load")[0]
        assert not re.search(r"``|\| *\||\(\s|\s,|[^.\n]  |: *\.", body), body


def test_names_in_tables_stay_in_their_cells() -> None:
    assert cell("CC BY | <b>4.0</b>\n& more") == "CC BY \\| &lt;b&gt;4.0&lt;/b&gt; &amp; more"


def test_a_card_without_kept_clips_or_gate_says_so(shelf: Shelf) -> None:
    text = card(shelf.platform, "2")
    assert "Not gated yet" in text and "not in the ledger" in text


def test_a_card_is_logged_once_with_the_run(shelf: Shelf, tmp_path: Path) -> None:
    assert log_card(shelf.platform, 1)
    assert not log_card(shelf.platform, 1)
    client = shelf.client
    run_id = client.get_model_version("needledrop", "1").run_id
    there = Path(client.download_artifacts(run_id, "README.md", str(tmp_path)))
    head = yaml.safe_load(there.read_text().split("---")[1])
    assert head["model-index"][0]["name"] == "needledrop"


def test_a_card_over_metrics_of_another_version_names_file_and_key(shelf: Shelf, tmp_path: Path) -> None:
    path = tmp_path / "evaluation/metrics.json"
    write_metrics(path, made_metrics())
    path.write_text(path.read_text().replace('"guidance"', '"weights"'))
    shutil.copy(shelf.workspace.root / "params.yaml", tmp_path)
    version = shelf.put(tmp_path, digest="4" * 64)
    try:
        with pytest.raises(Refusal, match=r"^run \w+: evaluation/metrics\.json: guidance is missing"):
            card(shelf.platform, str(version))
    finally:
        shelf.client.delete_model_version("needledrop", str(version))
