"""The measures behind the caption study: by hand, and against what LP-MusicCaps' authors published."""

import math
from pathlib import Path

import pytest

from benchmarks.captions_reference import (
    DATA,
    PLAIN,
    PUBLISHED,
    TAXONOMY,
    bleu_1,
    our_captions,
    published_scores,
    read_musiccaps,
    read_system,
    rouge_l,
    score,
    tagged,
)
from components.captioning.captioner import NO_TAGS_TEXT
from components.taxonomy import read_taxonomy

WORDS = read_taxonomy(TAXONOMY)
needs_data = pytest.mark.skipif(not Path(DATA / "lp_musiccaps").is_dir(), reason=f"no reference data in {DATA}")


def test_bleu_1_by_hand() -> None:
    # "a", "calm" and "tune" of 4 words; 4 words for 5 are fined exp(1 - 5 / 4).
    bleu, precision = bleu_1(["a calm folk tune"], ["a calm rock tune today"])
    assert precision == pytest.approx(0.75) and bleu == pytest.approx(0.75 * math.exp(-0.25))
    # Over a corpus matches and lengths are summed first: (3 + 1) / (4 + 3), and 7 words for 7.
    bleu, precision = bleu_1(["a calm folk tune", "the the the"], ["a calm rock tune today", "the end"])
    assert bleu == pytest.approx(4 / 7) and precision == pytest.approx(4 / 7)
    assert bleu_1(["Folk."], ["folk ."])[0] == pytest.approx(0.5), "capitals count, full stops are words"


def test_rouge_l_by_hand() -> None:
    # "a calm tune": 3 of 4 words, 3 of 5: F = 2 * 0.75 * 0.6 / 1.35; the other pair shares nothing.
    assert rouge_l(["A calm folk tune."], ["a calm rock tune, today"]) == pytest.approx(2 / 3)
    assert rouge_l(["A calm folk tune", "x"], ["a calm rock tune today", "y"]) == pytest.approx(1 / 3)


def test_aspects_become_tags() -> None:
    found = tagged("t", ["soft female vocal", "slow tempo", "finger snipping", "no drums", "no voice", "upbeat"], WORDS)
    assert [name for name, _ in found.tags["instruments"]] == ["female voice", "no vocals"]
    assert [name for name, _ in found.tags["moods"]] == ["happy", "slow", "soft"]
    assert found.tags["genres"] == ()


def test_a_system_is_scored_against_humans_and_tags() -> None:
    clips = [tagged("1", ["folk", "flute"], WORDS), tagged("2", ["steady ticking"], WORDS)]
    texts = ["Folk with drums.", "A piece of music."]
    found = score("one", texts, clips, ["Folk with drums.", "A piece of music."], WORDS).figures
    assert found["BLEU-1"] == pytest.approx(1.0) and found["ROUGE-L"] == pytest.approx(1.0)
    assert (found["tag recall"], found["hallucination rate"], found["terms a caption"]) == (0.5, 1.0, 1.0), "of track 1"
    assert score("human", texts, clips, None, WORDS).figures["BLEU-1"] is None


def test_our_captions_tell_the_tags_and_say_so_where_there_are_none() -> None:
    clips = [tagged("1", ["folk", "flute"], WORDS), tagged("2", ["steady ticking"], WORDS)]
    texts = {name: our_captions(params, clips, [], WORDS) for name, params in PLAIN.items()}
    assert texts["ours: tags"]["1"].text == "folk, flute"
    assert all(captions["2"].text == NO_TAGS_TEXT for captions in texts.values())


@needs_data
@pytest.mark.parametrize("name", PUBLISHED)
def test_published_scores_come_out_again(name: str) -> None:
    pairs = read_system(DATA, name)
    theirs = published_scores(DATA, name)
    assert bleu_1(*zip(*pairs, strict=True))[0] == pytest.approx(theirs["bleu1"], abs=0.001)
    # An eighth of the rows is enough for a hundredth; `benchmarks/captions_reference.py` takes all.
    assert rouge_l(*zip(*pairs[::8], strict=True)) == pytest.approx(theirs["rougeL"], abs=0.01)


@needs_data
def test_the_two_sources_join() -> None:
    captions = {track.caption for track in read_musiccaps(DATA)}
    assert sum(human in captions for _, human in read_system(DATA, PUBLISHED[0])) == 2835
