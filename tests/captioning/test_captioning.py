"""Captions: true to the tags, varied, the same whatever came before."""

import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from components import tables
from components.captioning.captioner import NO_TAGS_TEXT, Caption, Tagged, build_captioner, read_tags
from components.captioning.data2text import TEMPLATES, Data2Text
from components.captioning.params import CaptioningParams, Data2TextParams, TagsParams
from components.captioning.progress import caption_clips, publish
from components.captioning.thesaurus import WORDS, words_for
from components.modalities import TAG_GROUPS
from components.settings import ParamsError, parse_section

PARAMS = Data2TextParams(kind="data2text", seed=1, max_tags=3, synonyms=0.6)


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
    captioner = build_captioner(TagsParams(kind="tags"), [])
    (caption,) = captioner.caption([clip(**FULL)])
    assert caption.text == "folk, rock, happy, acoustic guitar, flute, piano"


def told(group: str, name: str, text: str) -> bool:
    return any(word.lower() in text.lower() for word in (name, *words_for(group, name)))


@pytest.mark.parametrize(
    "present", [groups for n in range(1, 8) if (groups := [g for at, g in enumerate(TAG_GROUPS) if n >> at & 1])]
)
def test_a_sentence_tells_the_lead_tag_of_every_group_it_has(present: list[str]) -> None:
    for number in range(60):
        one = clip(f"c{number}", **{group: FULL[group] for group in present})
        text = Data2Text(PARAMS).sentence(one)
        for group in present:
            assert told(group, FULL[group][0][0], text), text
        assert text[0].isupper() and text.endswith(".") and "{" not in text and "  " not in text


def test_sentences_are_varied() -> None:
    captioner = Data2Text(PARAMS)
    assert len({captioner.sentence(one) for one in clips(200)}) > 120


def test_nothing_but_tags_is_told() -> None:
    """Every word of a sentence stands in a template, or names one of the clip's tags."""
    allowed = {word.strip(".,;{}").lower() for template in TEMPLATES for word in template.split()} | {"a", "an", "and"}
    for group, tags in FULL.items():
        for name, _ in tags:
            for synonym in (name, *words_for(group, name)):
                allowed |= set(synonym.lower().split())
    for one in clips(200):
        words = {word.strip(".,;").lower() for word in Data2Text(PARAMS).sentence(one).split()}
        assert words <= allowed, words - allowed


def test_unknown_tags_are_told_as_they_are() -> None:
    text = Data2Text(PARAMS).sentence(clip(genres=[("zydeco", 0.5)], instruments=[("ondes martenot", 0.9)]))
    assert "zydeco" in text.lower() and "ondes martenot" in text.lower()


def test_articles_follow_the_sound() -> None:
    texts = [
        Data2Text(PARAMS).sentence(clip(f"c{n}", genres=[("indie", 1.0)], moods=[("epic", 1.0)])).lower()
        for n in range(80)
    ]
    assert any(" an " in f" {text}" for text in texts)
    assert not any(f" a {word}" in f" {text}" for text in texts for word in ("indie", "epic"))


def test_one_instrument_takes_no_plural_verb() -> None:
    texts = [
        Data2Text(PARAMS).sentence(
            clip(f"c{n}", instruments=[("banjo", 0.9)], **{k: FULL[k] for k in ("genres", "moods")})
        )
        for n in range(150)
    ]
    assert not any(verb in text for text in texts for verb in ("banjo carry", "banjo set", "banjo play"))


def test_the_thesaurus_holds_each_tag_itself_first_and_no_repeats() -> None:
    for group in TAG_GROUPS:
        for name, words in WORDS[group].items():
            assert (
                name == name.lower() and len(set(words)) == len(words) and all(word.strip() == word for word in words)
            )


@given(st.lists(st.tuples(st.text(min_size=1, max_size=12), st.floats(0.3, 1)), max_size=4), st.text(max_size=5))
def test_any_tag_names_give_one_sentence(tags: list[tuple[str, float]], clip_id: str) -> None:
    one = clip(clip_id, moods=tags)
    if not one.is_empty:
        captioner = Data2Text(PARAMS)
        assert captioner.sentence(one) == captioner.sentence(one) != ""


class Counting(Data2Text):
    """The template captioner, telling which clips it was asked for."""

    def __init__(self, params: Data2TextParams = PARAMS, stop_after: int | None = None) -> None:
        super().__init__(params)
        self.asked: list[str] = []
        self._stop_after = stop_after

    def caption(self, clips: Sequence[Tagged]) -> Iterator[Caption]:
        for caption in super().caption(clips):
            if self._stop_after is not None and len(self.asked) >= self._stop_after:
                raise KeyboardInterrupt
            self.asked.append(caption.clip_id)
            yield caption


def run(path: Path, wanted: list[Tagged], captioner: Counting, flush_s: float = 0.0):
    captioned = caption_clips(wanted, "data2text", captioner, path, flush_s)
    publish(captioned, path)
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
    assert sorted(path.name for path in tmp_path.iterdir()) == ["grown.parquet", "scratch.parquet"]


def test_changed_tags_and_settings_are_captioned_again(tmp_path: Path) -> None:
    path = tmp_path / "captions.parquet"
    run(path, clips(5), Counting())
    changed = [clip("c000", **FULL | {"moods": [("sad", 0.9)]}), *clips(5)[1:]]
    assert run(path, changed, Counting()).computed == 1
    assert run(path, changed, Counting(PARAMS.model_copy(update={"synonyms": 0.1}))).computed == 5
    path.write_bytes(b"half a table")
    assert run(path, changed, Counting()).computed == 5


def test_a_stopped_run_keeps_its_captions(tmp_path: Path) -> None:
    path = tmp_path / "captions.parquet"
    with pytest.raises(KeyboardInterrupt):
        run(path, clips(20), Counting(stop_after=7))
    assert not path.exists() and (tmp_path / "captions.parquet.partial").is_dir()
    captioner = Counting()
    assert run(path, clips(20), captioner).kept == 7 and len(captioner.asked) == 13
    run(tmp_path / "scratch.parquet", clips(20), Counting())
    assert path.read_bytes() == (tmp_path / "scratch.parquet").read_bytes()
    assert not (tmp_path / "captions.parquet.partial").exists()


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
    ],
)
def test_wrong_params_are_named(section: dict[str, object], said: str) -> None:
    with pytest.raises(ParamsError, match=said):
        parse_section(CaptioningParams, "captioning", {"captioning": section})


def test_the_command_writes_the_table(tmp_path: Path) -> None:
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
    command = [sys.executable, "-m", "components.captioning"]
    for name in ("manifest", "tags", "annotated", "captions"):
        command += [f"--{name}", str(tmp_path / f"{name}.parquet")]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert (
        done.stdout.splitlines()[-1]
        == "captioning: 2 rows, 2 computed, 0 kept, 0 dropped, 0 quarantined (1 no_tags, 1 ok)"
    )
    rows = tables.read_rows(tmp_path / "captions.parquet", tables.CAPTIONS)
    assert [row["clip_id"] for row in rows] == ["a", "b"] and rows[1]["text"] == NO_TAGS_TEXT
