"""The model card, in the form of the Hugging Face hub: made from lineage, metrics and the gate's report."""

import hashlib
import tempfile
from pathlib import Path
from typing import Any

import yaml

from components.stage import atomic_file
from flows.ledger.lease import check
from flows.lineage.facts import Facts, collect
from flows.lineage.naming import registry
from flows.registry.tracking import MODEL
from flows.workspace.platform import Platform
from flows.workspace.results import MODES

CARD_FILE, CARD_TAG = "README.md", "needledrop.card"

_USE = """\
Rank a music catalogue for a video, a sentence ("warm acoustic folk, hopeful, no vocals"), or both, so that people can
choose among the first few. It is meant for editors' tools, with a person who listens and decides.

Not meant for: telling who made a recording, judging people in a video, clearing rights, or choosing without a person."""

_LIMITS = """\
- Figures hold for this test set, pool size and kind of media. R@10 falls as a catalogue grows: compare it with chance.
- Captions were written by a program from tags, so the model knows the taxonomy's words better than others.
- A video or sentence unlike the training data still gets a full ranking; scores order tracks and are no probabilities."""


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


def publish_card(platform: Platform, version: int) -> bool:
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
    lineage = facts.lineage
    sections = {
        "Intended use": _USE,
        "Data": _data(facts),
        "Licence of the data": _licences(facts),
        "Training": _training(facts.params),
        "Evaluation": _evaluation(facts.metrics),
        "Limits": _LIMITS,
        "Gate": _gate(facts.gate),
        "Lineage": _lineage(lineage),
        "How to load": _loading(lineage["version"]),
    }
    head = yaml.safe_dump(_front(facts), sort_keys=False, allow_unicode=True)
    title = f"# {MODEL} version {lineage['version']}\n\nLanguage-guided music recommendation for video."
    return "\n\n".join([f"---\n{head}---", title, *(f"## {name}\n\n{text}" for name, text in sections.items())]) + "\n"


def _front(facts: Facts) -> dict[str, Any]:
    task = {"type": "video-to-music-retrieval", "name": "video to music retrieval"}
    dataset = {
        "type": facts.params["corpus"]["kind"],
        "name": f"corpus of {facts.lineage['data']['clips'] or 'clips'}",
        "split": "test",
        "revision": facts.lineage["data"]["manifest"],
    }
    measured = [
        {
            "type": "recall",
            "name": f"R@10, query {mode}, pool {facts.metrics['pool']['size']}",
            "value": row["R@10"]["value"],
        }
        for mode, row in _modes(facts.metrics).items()
    ]
    return {
        "license": "other",
        "license_name": "not-stated",
        "language": "en",
        "tags": ["music", "video", "retrieval", "recommendation"],
        "metrics": ["recall"],
        "model-index": [{"name": MODEL, "results": [{"task": task, "dataset": dataset, "metrics": measured}]}],
    }


def _modes(metrics: dict[str, Any]) -> dict[str, Any]:
    found = metrics["track"]["video_to_music"]
    return {mode: found[mode] for mode in MODES if mode in found}


def _data(facts: Facts) -> str:
    kind = facts.params["corpus"]["kind"]
    what = "The corpus is rendered by a program: no recording of a person is in it." if kind == "demo" else (
        f"The corpus is the media of a {'bucket' if kind == 's3' else kind} of its user."
    )  # fmt: skip
    lines = [what, f"Manifest digest `{facts.lineage['data']['manifest']}`."]
    if facts.rows is None:
        return "\n".join([*lines, "This version's run does not keep its clips, so they are not counted here."])
    splits = facts.count("split")
    described = sum(row["described"] for row in facts.clips)
    lines.append(
        f"{len(facts.clips)} clips: {', '.join(f'{splits[name]} {name}' for name in ('train', 'val', 'test'))}; "
        f"{described} with a human description. Splits share no video, track, artist or recording."
    )
    lines.append(f"{sum(row['indexed'] for row in facts.clips)} clips are in the version's catalogue.")
    return "\n".join(lines)


def _licences(facts: Facts) -> str:
    if facts.rows is None:
        return "Not recorded with this version; see the manifest."
    rows = [f"| {name} | {count} |" for name, count in sorted(facts.count("licence").items())]
    note = "The licence of the model itself is for its publisher to state; the front matter leaves it open."
    return "\n".join(["| licence of the media | clips |", "|---|---|", *rows, "", note])


def _training(params: dict[str, Any]) -> str:
    training, encoder = params["training"], params["encoder"]
    kinds = ", ".join(f"{name} `{section['kind']}`" for name, section in params.items() if "kind" in section)
    beside = (
        ""
        if encoder["linear"]["kind"] == "none"
        else f", linear paths of kind `{encoder['linear']['kind']}` beside them"
    )
    return (
        f"Frozen features, one Transformer per modality ({encoder['layers']} blocks of width "
        f"{encoder['width']}){beside}, fusion `{encoder['fusion']['kind']}`, loss `{encoder['loss']['kind']}`. "
        f"Up to {training['steps']} steps of {training['batch']} clips, learning "
        f"rate {training['learning_rate']:g}, seed {training['seed']}. Share of samples trained without text "
        f"{training['text_dropout']:g}, without video {training['video_dropout']:g}. Kinds: {kinds}."
    )


def _evaluation(metrics: dict[str, Any]) -> str:
    pool = metrics["pool"]
    lines = [
        f"Video to music, track level, {pool['queries']} queries in a pool of {pool['size']}; chance R@10 "
        f"{pool['chance']['R@10']:.3f}. Intervals of {pool.get('confidence', 0.95):.0%} by bootstrap over artists.",
        "",
        "| query | R@1 | R@10 | interval | times chance | median rank |",
        "|---|---|---|---|---|---|",
    ]
    for mode, row in _modes(metrics).items():
        hit, times = row["R@10"], row["R@10"]["value"] / pool["chance"]["R@10"]
        lines.append(
            f"| {mode} | {row['R@1']['value']:.3f} | {hit['value']:.3f} | {hit['low']:.3f} to {hit['high']:.3f} | "
            f"{times:.1f} | {row['MedR']['value']:g} |"
        )
    return "\n".join(lines)


def _gate(report: dict[str, Any] | None) -> str:
    if report is None:
        return "Not gated yet: no verdict says that it may be promoted."
    words = report["words"]
    checks = [f"| {one['asks']} | {one['found']} | {one['limit']} | {one['outcome']} |" for one in report["checks"]]
    said = " ".join(filter(None, [f"**{words['headline']}.**", words["found"], words["next"]]))
    return "\n".join([said, "", "| check | found | limit | outcome |", "|---|---|---|---|", *checks])


def _lineage(lineage: dict[str, Any]) -> str:
    release = lineage["release"]
    approved = (
        f", approved by {release['approved_by']} at {release['approved_at']}"
        if release and release["approved_by"]
        else ""
    )
    rows = {
        "content": lineage["digest"],
        "data (manifest)": lineage["data"]["manifest"],
        "params": lineage["params"],
        "code": lineage["code"],
        "commit": lineage["commit"] + (" (files differed from it)" if lineage["dirty"] == "true" else ""),
        "run": lineage["run"]["id"],
        "state": f"{release['state']}{approved}" if release else "not in the ledger",
    }
    return "\n".join(["| what | which |", "|---|---|", *(f"| {name} | `{value}` |" for name, value in rows.items())])


def _loading(version: int) -> str:
    return f"""\
```
import mlflow, pandas as pd
model = mlflow.pyfunc.load_model("models:/{MODEL}/{version}")
model.predict(pd.DataFrame([{{"video": "clip.mp4", "text": "warm acoustic folk, hopeful", "k": 10}}]))
```

Weights are safetensors; nothing is pickled. `needledrop reproduce {version}` evaluates it again and compares to the bit."""
