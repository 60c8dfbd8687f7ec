"""Captions: true to the tags, varied, the same whatever came before."""

import json
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from components import tables
from components.captioning.__main__ import main
from components.captioning.build import build_captioner
from components.captioning.captioner import NO_TAGS_TEXT, Caption, Sources, Tagged, read_tags
from components.captioning.data2text import TEMPLATES, Data2Text
from components.captioning.params import CaptioningParams, TagsParams
from components.captioning.progress import Captioned, caption_clips
from components.captioning.publish import publish
from components.modalities import TAG_GROUPS
from components.settings import ParamsError, parse_section
from components.taxonomy import read_taxonomy

TAXONOMY = read_taxonomy(Path(__file__).parents[2] / "components" / "taxonomy.yaml")
QUALITY = {
    "min_recall": 0.5, "max_hallucinated": 0, "leaked_words": 8, "leaked_share": 0.8, "min_words": 2, "max_words": 60,
    "near_duplicate": 0.8, "max_cluster": 0.2, "least_yield": 0.9,
}  # fmt: skip


def writer(seed: int = 1, max_tags: int = 3, synonyms: float = 0.6) -> Data2Text:
    return Data2Text(seed, max_tags, synonyms, TAXONOMY)


def clip(clip_id: str = "c", genres: Sequence = (), moods: Sequence = (), instruments: Sequence = ()) -> Tagged:
    groups = zip(TAG_GROUPS, (genres, moods, instruments), strict=True)
    return Tagged(clip_id, {group: tuple(tags) for group, tags in groups})


FULL = {
    "genres": [("folk", 0.9), ("rock", 0.4)],
    "moods": [("happy", 0.8)],
    "instruments": [("acoustic guitar", 0.9), ("flute", 0.6), ("piano", 0.5)],
}


def clips(count: int) -> list[Tagged]:
    return [clip(f"c{number:03d}", **FULL) for number in range(count)]


def test_rows_become_groups_sorted_by_probability() -> None:
    tags = [
        {"group": "instruments", "name": "flute", "probability": 0.4},
        {"group": "genres", "name": "rock", "probability": 0.3},
        {"group": "instruments", "name": "piano", "probability": 0.9},
    ]
    tagged = read_tags({"clip_id": "c", "tags": tags})
    assert tagged.tags == {"genres": (("rock", 0.3),), "moods": (), "instruments": (("piano", 0.9), ("flute", 0.4))}
    assert tagged.digest == read_tags({"clip_id": "other", "tags": tags[::-1]}).digest


def test_tags_are_concatenated_group_by_group() -> None:
    params = TagsParams.model_validate({"kind": "tags", "quality": QUALITY})
    captioner = build_captioner(params, Sources(TAXONOMY, [], (), Path("no journal")))
    (caption,) = captioner.caption([clip(**FULL)])
    assert caption.text == "folk, rock, happy, acoustic guitar, flute, piano"


def told(group: str, name: str, text: str) -> bool:
    return any(word.lower() in text.lower() for word in TAXONOMY.words(group, name))


@pytest.mark.parametrize(
    "present", [groups for n in range(1, 8) if (groups := [g for at, g in enumerate(TAG_GROUPS) if n >> at & 1])]
)
def test_a_sentence_tells_the_lead_tag_of_every_group_it_has(present: list[str]) -> None:
    for number in range(60):
        one = clip(f"c{number}", **{group: FULL[group] for group in present})
        text = writer().sentence(one)
        for group in present:
            assert told(group, FULL[group][0][0], text), text
        assert text[0].isupper() and text.endswith(".") and "{" not in text and "  " not in text


def test_sentences_are_varied() -> None:
    captioner = writer()
    assert len({captioner.sentence(one) for one in clips(200)}) > 120


def test_nothing_but_tags_is_told() -> None:
    """Every word of a sentence stands in a template, or names one of the clip's tags."""
    allowed = {word.strip(".,;{}").lower() for template in TEMPLATES for word in template.split()} | {"a", "an", "and"}
    for group, tags in FULL.items():
        for name, _ in tags:
            for synonym in TAXONOMY.words(group, name):
                allowed |= set(synonym.lower().split())
    for one in clips(200):
        words = {word.strip(".,;").lower() for word in writer().sentence(one).split()}
        assert words <= allowed, words - allowed


def test_unknown_tags_are_told_as_they_are() -> None:
    text = writer().sentence(clip(genres=[("zydeco", 0.5)], instruments=[("ondes martenot", 0.9)]))
    assert "zydeco" in text.lower() and "ondes martenot" in text.lower()


def test_articles_follow_the_sound() -> None:
    texts = [
        writer().sentence(clip(f"c{n}", genres=[("indie", 1.0)], moods=[("epic", 1.0)])).lower() for n in range(80)
    ]
    assert any(" an " in f" {text}" for text in texts)
    assert not any(f" a {word}" in f" {text}" for text in texts for word in ("indie", "epic"))


def test_one_instrument_takes_no_plural_verb() -> None:
    texts = [
        writer().sentence(clip(f"c{n}", instruments=[("banjo", 0.9)], **{k: FULL[k] for k in ("genres", "moods")}))
        for n in range(150)
    ]
    assert not any(verb in text for text in texts for verb in ("banjo carry", "banjo set", "banjo play"))


@given(st.lists(st.tuples(st.text(min_size=1, max_size=12), st.floats(0.3, 1)), max_size=4), st.text(max_size=5))
def test_any_tag_names_give_one_sentence(tags: list[tuple[str, float]], clip_id: str) -> None:
    one = clip(clip_id, moods=tags)
    if not one.is_empty:
        captioner = writer()
        assert captioner.sentence(one) == captioner.sentence(one) != ""


class Counting(Data2Text):
    """The template captioner, telling which clips it was asked for."""

    def __init__(self, synonyms: float = 0.6) -> None:
        super().__init__(1, 3, synonyms, TAXONOMY)
        self.asked: list[str] = []

    def caption(self, clips: Sequence[Tagged]) -> Iterator[Caption]:
        for caption in super().caption(clips):
            self.asked.append(caption.clip_id)
            yield caption


def run(path: Path, wanted: list[Tagged], captioner: Counting) -> Captioned:
    completions = path.with_suffix(".completions")
    captioned = caption_clips(wanted, "data2text", captioner, path, completions)
    publish(captioned, path, completions, path.with_suffix(".quarantine"))
    return captioned


def test_more_clips_compute_only_those(tmp_path: Path) -> None:
    every = clips(103)
    some = [one for one in every if one.clip_id not in ("c000", "c050", "c102")]
    run(tmp_path / "grown.parquet", some, Counting())
    captioner = Counting()
    more = run(tmp_path / "grown.parquet", every, captioner)
    assert (more.computed, more.kept, more.dropped) == (3, 100, 0)
    assert captioner.asked == ["c000", "c050", "c102"]
    run(tmp_path / "scratch.parquet", every[::-1], Counting())
    assert (tmp_path / "grown.parquet").read_bytes() == (tmp_path / "scratch.parquet").read_bytes()
    fewer = run(tmp_path / "grown.parquet", some, Counting())
    assert (fewer.computed, fewer.kept, fewer.dropped) == (0, 100, 3)


def test_changed_tags_and_settings_are_captioned_again(tmp_path: Path) -> None:
    path = tmp_path / "captions.parquet"
    run(path, clips(5), Counting())
    changed = [clip("c000", **FULL | {"moods": [("sad", 0.9)]}), *clips(5)[1:]]
    assert run(path, changed, Counting()).computed == 1
    assert run(path, changed, Counting(synonyms=0.1)).computed == 5
    path.write_bytes(b"half a table")
    assert run(path, changed, Counting(synonyms=0.1)).computed == 5


def test_a_clip_without_tags_gets_an_honest_sentence(tmp_path: Path) -> None:
    (row,) = run(tmp_path / "captions.parquet", [clip("c")], Counting()).rows
    assert (row["text"], row["verdict"], row["attempts"]) == (NO_TAGS_TEXT, "no_tags", 0)


@pytest.mark.parametrize(
    ("section", "said"),
    [
        ({"kind": "gpt"}, "captioning"),
        ({"kind": "tags", "seed": 1}, "seed: unknown key"),
        ({"kind": "data2text", "seed": 1, "max_tags": 3, "synonyms": 1.5}, "synonyms"),
        ({"kind": "data2text", "seed": 1, "max_tags": 3}, "synonyms: missing"),
        ({"kind": "bloom", "dtype": "int8"}, "dtype"),
        ({"kind": "bloom", "prompt": {"selection": {"kind": "best"}}}, "selection"),
        ({"kind": "endpoint", "url": "localhost:8000"}, "url"),
        ({"kind": "tags", "quality": QUALITY | {"min_words": 70}}, "min_words is larger than max_words"),
    ],
)
def test_wrong_params_are_named(section: dict[str, object], said: str) -> None:
    with pytest.raises(ParamsError, match=said):
        parse_section(CaptioningParams, "captioning", {"captioning": section})


def test_the_command_writes_the_table(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    numbers = {
        "bytes": 1,
        "width": 1,
        "height": 1,
        "duration_s": 1.0,
        "fps": 1.0,
        "sample_rate_hz": 1,
        "channels": 1,
        "start_s": 0.0,
        "end_s": 1.0,
    }
    row = dict.fromkeys(tables.MANIFEST.names, "x") | numbers
    tables.write_rows(
        tmp_path / "manifest.parquet", [row | {"clip_id": name} for name in ("a", "b", "no-tags-row")], tables.MANIFEST
    )
    tags = [{"group": "genres", "name": "folk", "probability": 0.8}]
    tables.write_rows(
        tmp_path / "tags.parquet",
        [{"clip_id": "a", "tags": tags}, {"clip_id": "b", "tags": []}, {"clip_id": "gone", "tags": tags}],
        tables.TAGS,
    )
    tables.write_rows(tmp_path / "annotated.parquet", [], tables.ANNOTATIONS)
    root = Path(__file__).parents[2]
    section = {"kind": "data2text", "seed": 1, "max_tags": 3, "synonyms": 0.6, "quality": QUALITY}
    (tmp_path / "params.yaml").write_text(json.dumps({"captioning": section}))
    words = ["captioning", "--taxonomy", str(root / "components" / "taxonomy.yaml"), "--quality", "quality"]
    for name in ("manifest", "tags", "annotated", "captions", "completions", "quarantine"):
        words += [f"--{name}", f"{name}.parquet"]
    monkeypatch.setattr(sys, "argv", words)
    monkeypatch.chdir(tmp_path)
    main()
    quality, rows_line = capsys.readouterr().out.splitlines()[-2:]
    assert rows_line == "captioning: 2 rows, 2 computed, 0 kept, 0 dropped, 0 quarantined (1 no_tags, 1 ok)"
    assert "yield 100.0%" in quality and "of 1" in quality
    rows = tables.read_rows(tmp_path / "captions.parquet", tables.CAPTIONS)
    assert [row["clip_id"] for row in rows] == ["a", "b"] and rows[1]["text"] == NO_TAGS_TEXT
    assert (tmp_path / "quality" / "report.json").is_file() and (tmp_path / "quality" / "audit.html").is_file()
