"""The model card, in the form of the Hugging Face hub: made from lineage, metrics and the gate's report."""

import hashlib
import html
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from components.evaluation.metrics_file import MODES, Metrics, Mode, RankMetrics
from components.stage import atomic_file
from flows.ledger.lease import check
from flows.lineage.facts import Facts, collect
from flows.lineage.naming import registry
from flows.registry.tracking import MODEL
from flows.workspace.platform import Platform

if TYPE_CHECKING:
    from huggingface_hub import ModelCardData

CARD_FILE, CARD_TAG = "README.md", "needledrop.card"
_TEMPLATE: Final = Path(__file__).with_name("card.md")


def card(platform: Platform, model: str) -> str:
    """Return the card of a version as Markdown with YAML front matter; equal facts give equal text.

    Raises:
        Refusal: there is no such version, or the registry does not answer.
    """
    return render(collect(platform, model))


def write_card(path: Path, text: str) -> None:
    """Write a card, whole or not at all."""
    with atomic_file(path) as part:
        part.write_text(text, encoding="utf-8")


def log_card(platform: Platform, version: int) -> bool:
    """Log a version's card into its run as `README.md`, unless the same card is there; tell whether it was.

    Call it after registration, after the gate, and after promotion or rollback.

    Raises:
        Refusal: there is no such version, or the registry does not answer.
    """
    facts = collect(platform, str(version))
    text = render(facts)
    digest = hashlib.sha256(text.encode()).hexdigest()
    with registry(platform) as client, tempfile.TemporaryDirectory() as scratch:
        if client.get_model_version(MODEL, str(version)).tags.get(CARD_TAG) == digest:
            return False
        write_card(Path(scratch) / CARD_FILE, text)
        check()
        client.log_artifact(facts.lineage["run"]["id"], str(Path(scratch) / CARD_FILE))
        client.set_model_version_tag(MODEL, str(version), CARD_TAG, digest)
    return True


def render(facts: Facts) -> str:
    """Return the card's text."""
    from huggingface_hub import ModelCard

    lineage, params = facts.lineage, facts.params
    made = ModelCard.from_template(
        _metadata(facts),
        template_path=str(_TEMPLATE),
        model=MODEL,
        version=lineage["version"],
        corpus={"kind": params["corpus"]["kind"], "manifest": lineage["data"]["manifest"]},
        clips=_clips(facts),
        encoder=params["encoder"],
        training=params["training"],
        kinds=", ".join(f"{name} `{section['kind']}`" for name, section in params.items() if "kind" in section),
        pool=facts.metrics.pool,
        modes=_modes(facts.metrics),
        gate=facts.gate,
        checks=[
            [cell(text) for text in (check.asks, check.found, check.limit, check.outcome)]
            for check in (facts.gate.checks if facts.gate else ())
        ],
        lineage=_lineage(lineage),
    )
    return f"{str(made).rstrip()}\n"


def cell(text: str) -> str:
    """Return text that stays within a cell of a Markdown table, and is no HTML."""
    return html.escape(" ".join(text.split()), quote=False).replace("|", "\\|")


def _metadata(facts: Facts) -> "ModelCardData":
    from huggingface_hub import EvalResult, ModelCardData

    measured = [
        EvalResult(
            task_type="video-to-music-retrieval",
            task_name="video to music retrieval",
            dataset_type=facts.params["corpus"]["kind"],
            dataset_name=f"corpus of {facts.lineage['data']['clips'] or 'clips'}",
            dataset_split="test",
            dataset_revision=facts.lineage["data"]["manifest"],
            metric_type="recall",
            metric_name=f"R@10, query {mode}, pool {facts.metrics.pool.size}",
            metric_value=reached.recall_at_10.value,
        )
        for mode, reached in _modes(facts.metrics).items()
    ]
    return ModelCardData(
        license="other",
        license_name="not-stated",
        language="en",
        tags=["music", "video", "retrieval", "recommendation"],
        metrics=["recall"],
        model_name=MODEL,
        eval_results=measured,
    )


def _modes(metrics: Metrics) -> dict[Mode, RankMetrics]:
    reached = metrics.track.video_to_music
    return {mode: reached[mode] for mode in MODES if mode in reached}


def _clips(facts: Facts) -> dict[str, Any] | None:
    if facts.rows is None:
        return None
    splits = facts.count("split")
    return {
        "count": len(facts.clips),
        "splits": ", ".join(f"{splits[name]} {name}" for name in ("train", "val", "test")),
        "described": sum(row["described"] for row in facts.clips),
        "indexed": sum(row["indexed"] for row in facts.clips),
        "licences": [(cell(name), count) for name, count in sorted(facts.count("licence").items())],
    }


def _lineage(lineage: dict[str, Any]) -> dict[str, str]:
    release = lineage["release"]
    state = "not in the ledger"
    if release:
        state = release["state"]
        if release["approvals"]:
            given = ", ".join(f"{cell(one['by'])} at {one['at']}" for one in release["approvals"])
            state += f", approved by {given}"
    return {
        "content": lineage["digest"],
        "data (manifest)": lineage["data"]["manifest"],
        "params": lineage["params"],
        "code": lineage["code"],
        "commit": lineage["commit"] + (" (files differed from it)" if lineage["dirty"] == "true" else ""),
        "run": lineage["run"]["id"],
        "state": state,
    }
