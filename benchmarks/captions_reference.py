"""Our captions beside those of large language models, against what humans wrote of the same music.

MusicCaps (Agostinelli et al., 2023) has tags and a caption by a human per track; LP-MusicCaps (Doh et
al., ISMIR 2023) has captions that GPT-3.5 and simple baselines wrote from those tags, with the scores
that its authors published. First their scores are computed again, to show that ours are the same
measure; then every system is scored on the same rows.

    python -m benchmarks.captions_reference [--params params.yaml ...]

Each file given by ``--params`` adds a row: its captioning section writes captions of the same tags,
with MusicCaps' training half as exemplars. Prints Markdown.
"""

import argparse
import ast
import csv
import json
import sys
import tempfile
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean

from components.captioning.build import build_captioner
from components.captioning.captioner import NO_TAGS, NO_TAGS_TEXT, Caption, Exemplar, Sources, Tagged
from components.captioning.collection import describe_collection
from components.captioning.params import CaptioningParams, Data2TextParams, QualityParams, TagsParams
from components.captioning.prompt import usable_exemplars
from components.captioning.quality import judge
from components.modalities import TAG_GROUPS
from components.settings import read_section
from components.taxonomy import Tag, Taxonomy, read_taxonomy

DATA = Path(__file__).parents[2] / "shared" / "data"
TAXONOMY = Path(__file__).parents[1] / "components" / "taxonomy.yaml"
PUBLISHED = ("caption_writing", "caption_summary", "baseline_tagconcat", "baseline_template")
OTHERS = ("caption_paraphrase", "caption_attribute_prediction")

LIMITS = QualityParams(
    min_recall=0.0,
    max_hallucinated=0,
    leaked_words=8,
    leaked_share=0.8,
    min_words=1,
    max_words=1000,
    near_duplicate=0.8,
    max_cluster=0.1,
    least_yield=0.95,
)
PLAIN: dict[str, CaptioningParams] = {
    "ours: tags": TagsParams(kind="tags", quality=LIMITS),
    "ours: data2text": Data2TextParams(kind="data2text", seed=1, max_tags=10, synonyms=0.6, quality=LIMITS),
}

NO_VOCALS: Tag = ("instruments", "no vocals")
VOICE: Tag = ("instruments", "voice")


@dataclass(frozen=True)
class Track:
    """A track of MusicCaps."""

    track_id: str
    aspects: tuple[str, ...]
    caption: str
    held_out: bool  # in AudioSet's evaluation half, as all tracks of LP-MusicCaps are


# -- the two measures ----------------------------------------------------------------------------


def bleu_1(predictions: Sequence[str], references: Sequence[str]) -> tuple[float, float]:
    """Return corpus BLEU with unigrams only (Papineni et al., 2002) and its precision, in [0, 1], with sacrebleu.

    Tokens are those of the WMT script mteval-v13a, in the texts' own case. BLEU is the precision times a
    penalty for texts that are shorter than the references.
    """
    from sacrebleu.metrics.bleu import BLEU

    measure = BLEU(tokenize="13a", lowercase=False, max_ngram_order=1, smooth_method="none")
    found = measure.corpus_score(list(predictions), [list(references)])
    return float(found.score) / 100, float(found.precisions[0]) / 100


def rouge_l(predictions: Sequence[str], references: Sequence[str]) -> float:
    """Return the mean F-measure of ROUGE-L (Lin, 2004), in [0, 1], with rouge-score, without stemming."""
    from rouge_score.rouge_scorer import RougeScorer

    scorer = RougeScorer(["rougeL"])
    pairs = zip(references, predictions, strict=True)
    return fmean(scorer.score(reference, prediction)["rougeL"].fmeasure for reference, prediction in pairs)


# -- the data ------------------------------------------------------------------------------------


def read_musiccaps(folder: Path) -> list[Track]:
    """Read MusicCaps."""
    with (folder / "musiccaps" / "musiccaps-public.csv").open(encoding="utf-8", newline="") as file:
        return [
            Track(
                row["ytid"],
                tuple(ast.literal_eval(row["aspect_list"])),
                row["caption"].strip(),
                row["is_audioset_eval"] == "True",
            )
            for row in csv.DictReader(file)
        ]


def read_system(folder: Path, name: str) -> list[tuple[str, str]]:
    """Read a system of LP-MusicCaps: (prediction, what the human wrote) per track."""
    rows = json.loads((folder / "lp_musiccaps" / name / "inference.json").read_text(encoding="utf-8"))
    return [(row["prediction"], row["ground_truth"].strip()) for row in rows]


def published_scores(folder: Path, name: str) -> dict[str, float]:
    """Read what the authors of a system of LP-MusicCaps measured themselves."""
    scores: dict[str, float] = json.loads((folder / "lp_musiccaps" / name / "results.json").read_text())
    return scores


def tagged(track_id: str, aspects: Sequence[str], taxonomy: Taxonomy) -> Tagged:
    """Return a track with the tags that its aspects name, each with probability 1.

    An aspect is a phrase ("soft female vocal") and may name several tags or none. Of words with several
    meanings the tag of that very name is taken, else the first; denied tags are left out, but for "no
    voice", which is a tag itself.
    """
    found: dict[str, dict[str, float]] = {group: {} for group in TAG_GROUPS}
    for aspect in aspects:
        for mention in taxonomy.mentions(aspect):
            exact = sorted(tag for tag in mention.tags if tag[1] == mention.words)
            group, name = [*exact, *sorted(mention.tags)][0]
            if mention.negated and VOICE in mention.tags:
                group, name = NO_VOCALS
            elif mention.negated:
                continue
            found[group][name] = 1.0
    return Tagged(track_id, {group: tuple(sorted(found[group].items())) for group in TAG_GROUPS})


# -- our own captions ----------------------------------------------------------------------------


def our_captions(
    params: CaptioningParams, clips: Sequence[Tagged], exemplars: Sequence[Exemplar], taxonomy: Taxonomy
) -> dict[str, Caption]:
    """Return the captions that a captioning section writes, by clip; the very code of the stage."""
    with tempfile.TemporaryDirectory() as scratch:
        sources = Sources(taxonomy, exemplars, frozenset(), Path(scratch) / "journal" / "completions.jsonl")
        captioner = build_captioner(params, sources)
        written = captioner.caption([clip for clip in clips if not clip.is_empty])
        nothing = [Caption(clip.clip_id, NO_TAGS_TEXT, NO_TAGS) for clip in clips if clip.is_empty]
        return {caption.clip_id: caption for caption in (*written, *nothing)}


def history(captions: Iterable[Caption]) -> str:
    """Say how captions came about: verdicts, tries, and why answers of a language model were refused."""
    captions = list(captions)
    verdicts = ", ".join(
        f"{count} {verdict}" for verdict, count in sorted(Counter(c.verdict for c in captions).items())
    )
    tries = sum(len(caption.attempts) for caption in captions)
    refused = Counter(reason for caption in captions for attempt in caption.attempts for reason in attempt.reasons)
    return verdicts + (f"; {tries} answers, refused for {dict(refused.most_common())}" if tries else "")


# -- scoring -------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Scored:
    """A system's row of the table."""

    name: str
    figures: Mapping[str, float | None]


def score(
    name: str, texts: Sequence[str], clips: Sequence[Tagged], humans: Sequence[str] | None, taxonomy: Taxonomy
) -> Scored:
    """Score one system: against the humans' captions (None: these are they), and against the tags of tracks with any."""
    bleu, precision = bleu_1(texts, humans) if humans else (None, None)
    told = [(text, clip) for text, clip in zip(texts, clips, strict=True) if not clip.is_empty]
    judged = [judge(text, "stop", clip, (), taxonomy, LIMITS) for text, clip in told]
    collection = describe_collection(texts, LIMITS)
    return Scored(
        name,
        {
            "BLEU-1": bleu,
            "its precision": precision,
            "ROUGE-L": rouge_l(texts, humans) if humans else None,
            "tag recall": fmean(each.recall for each in judged),
            "hallucination rate": fmean(bool(each.hallucinated) for each in judged),
            "terms a caption": fmean(len(each.hallucinated) for each in judged),
            "contradictions": fmean(bool(each.contradictions) for each in judged),
            "distinct-2": collection["distinct_2"],
            "words": collection["mean_words"],
        },
    )


def table(rows: Sequence[Scored]) -> Iterator[str]:
    """Yield the lines of a Markdown table."""
    yield "| system | " + " | ".join(rows[0].figures) + " |"
    yield "|---" * (len(rows[0].figures) + 1) + "|"
    for row in rows:
        cells = [_cell(name, value) for name, value in row.figures.items()]
        yield f"| {row.name} | " + " | ".join(cells) + " |"


def _cell(name: str, value: float | None) -> str:
    if value is None:
        return "-"
    return f"{value:.1f}" if name == "words" else f"{value:.3f}"


def reproduced(folder: Path) -> list[Scored]:
    """Return the published scores beside those computed here, on all rows of each system."""
    rows = []
    for name in (*PUBLISHED, *OTHERS):
        pairs = read_system(folder, name)
        predictions, references = [pair[0] for pair in pairs], [pair[1] for pair in pairs]
        theirs = published_scores(folder, name)
        figures = {
            "BLEU-1 published": theirs["bleu1"],
            "BLEU-1 here": bleu_1(predictions, references)[0],
            "ROUGE-L published": theirs["rougeL"],
            "ROUGE-L here": rouge_l(predictions, references),
        }
        rows.append(Scored(name, figures))
    return rows


def _listed(clip: Tagged, taxonomy: Taxonomy) -> Iterator[Tag]:
    return (other for group in TAG_GROUPS for name, _ in clip.tags[group] for other in taxonomy.implied((group, name)))


def _opening(caption: str, most: int | None) -> str:
    """Return the caption, or its first sentence where that has at most ``most`` words, else nothing."""
    if most is None:
        return caption
    first = caption.split(". ")[0].strip()
    return first if len(first.split()) <= most else ""


def main() -> None:
    """Print both tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--params", type=Path, nargs="*", default=[], help="files whose captioning section adds a row")
    parser.add_argument("--data", type=Path, default=DATA, help="folder of the reference data")
    parser.add_argument("--rows", type=int, default=None, help="score the first so many tracks only")
    parser.add_argument("--pool", type=int, default=500, help="exemplars to choose from")
    parser.add_argument(
        "--words", type=int, default=None, help="show first sentences up to so many words, not whole captions"
    )
    parser.add_argument("--show", type=int, default=0, help="print so many captions of each system of ours")
    args = parser.parse_args()
    if not (args.data / "lp_musiccaps").is_dir():
        sys.exit(f"error: {args.data}: no reference data here; name its folder with --data")
    taxonomy = read_taxonomy(TAXONOMY)
    print("## Published scores, computed again\n", *table(reproduced(args.data)), "", sep="\n")

    tracks = read_musiccaps(args.data)
    by_caption = {track.caption: track for track in tracks}
    joined = [human for _, human in read_system(args.data, PUBLISHED[0]) if human in by_caption][: args.rows]
    aspects = [aspect for human in joined for aspect in by_caption[human].aspects]
    mapped = sum(any(not m.negated or VOICE in m.tags for m in taxonomy.mentions(aspect)) for aspect in aspects)
    clips = [tagged(f"{at:05d}", by_caption[human].aspects, taxonomy) for at, human in enumerate(joined)]
    humans = joined
    tags = Counter(group for clip in clips for group in TAG_GROUPS for _ in clip.tags[group])
    torn = fmean(bool(taxonomy.contradictions(_listed(clip, taxonomy))) for clip in clips)
    print(f"{len(clips)} tracks, {sum(clip.is_empty for clip in clips)} of them without a tag of ours;")
    print(
        f"{mapped} of {len(aspects)} aspects ({mapped / len(aspects):.1%}) name a tag; {tags.total() / len(clips):.2f} tags a track"
    )
    print(f"({', '.join(f'{count} {group}' for group, count in tags.items())});")
    print(f"the tags of {torn:.1%} of the tracks contradict each other.\n")

    shown = [
        Exemplar(tagged(track.track_id, track.aspects, taxonomy), text)
        for track in tracks
        if not track.held_out and (text := _opening(track.caption, args.words))
    ]
    pool = usable_exemplars(shown)[: args.pool]
    rows = [score("human", humans, clips, None, taxonomy)]
    for name in (*PUBLISHED, *OTHERS):
        texts = {human: text for text, human in read_system(args.data, name)}
        rows.append(score(name, [texts[human] for human in humans], clips, humans, taxonomy))
    ours = PLAIN | {f"ours: {path.stem}": read_section(CaptioningParams, "captioning", path) for path in args.params}
    for name, params in ours.items():
        captions = our_captions(params, clips, pool, taxonomy)
        texts_in_order = [captions[clip.clip_id].text for clip in clips]
        rows.append(score(name, texts_in_order, clips, humans, taxonomy))
        print(f"{name}: {history(captions.values())}", *texts_in_order[: args.show], sep="\n- ")
    print("\n## The same tracks\n", *table(rows), sep="\n")


if __name__ == "__main__":
    main()
