"""The vocabulary: labels find names, sentences are read back, and mistakes in the file are named."""

from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from components.taxonomy import Taxonomy, read_taxonomy

FILE = Path(__file__).parents[1] / "components" / "taxonomy.yaml"


@pytest.fixture(scope="module")
def taxonomy() -> Taxonomy:
    return read_taxonomy(FILE)


def named(taxonomy: Taxonomy, text: str) -> list[tuple[str, bool]]:
    return [
        ("/".join(sorted(name for _, name in mention.tags)), mention.negated) for mention in taxonomy.mentions(text)
    ]


@pytest.mark.parametrize(
    ("label", "tags"),
    [
        ("Hip-Hop", {("genres", "hip hop")}),
        ("drumnbass", {("genres", "drum and bass")}),
        ("alternative", {("genres", "alternative")}),  # a name goes before another name's label
        ("female vocalists", {("instruments", "female voice")}),
        ("no voice", {("instruments", "no vocals")}),
        ("electricguitar", {("instruments", "electric guitar")}),
        ("80s", set()),
    ],
)
def test_labels_of_published_taggers_find_their_names(
    taxonomy: Taxonomy, label: str, tags: set[tuple[str, str]]
) -> None:
    assert set(taxonomy.find(label)) == tags


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("A folky tune with saxophones.", [("folk", False), ("saxophone", False)]),
        ("distorted guitar", [("electric guitar", False)]),  # the longest phrase, not "guitar"
        ("no drums and piano", [("drums/drumset", True), ("piano", False)]),
        ("without piano or flute", [("piano", True), ("flute", True)]),
        ("no vocals", [("no vocals", False)]),
        ("bass, brass and blues", [("bass", False), ("brass/trumpet", False), ("blues", False)]),
        ("no such thing, a trumpet call", [("trumpet", False)]),
        ("", []),
    ],
)
def test_sentences_are_read_back(taxonomy: Taxonomy, text: str, found: list[tuple[str, bool]]) -> None:
    assert named(taxonomy, text) == found


def test_every_name_and_word_is_found_again(taxonomy: Taxonomy) -> None:
    for (group, name), entry in taxonomy.entries.items():
        for word in (name, *entry.words):
            found = taxonomy.mentions(f"this has {word} in it")
            assert any((group, name) in mention.tags for mention in found), word
        assert set(taxonomy.find(name)) >= {(group, name)}
        assert taxonomy.words(group, name)[0] == name


def test_what_excludes_and_what_follows(taxonomy: Taxonomy) -> None:
    slow, fast, silent, sung = (
        ("moods", "slow"),
        ("moods", "fast"),
        ("instruments", "no vocals"),
        ("instruments", "voice"),
    )
    assert taxonomy.contradictions([slow, fast]) == [(fast, slow)]
    assert taxonomy.contradictions([sung, silent, slow]) == [(silent, sung)]
    assert taxonomy.contradictions([slow, ("moods", "sad")]) == []
    assert taxonomy.implied(("instruments", "synth pad")) == {
        ("instruments", "synth pad"), ("instruments", "synthesizer"), ("instruments", "pad"),
    }  # fmt: skip
    assert taxonomy.implied(("genres", "zydeco")) == {("genres", "zydeco")}
    assert taxonomy.words("genres", "zydeco") == ("zydeco",)


@given(text=st.text())
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
def test_any_text_can_be_read(taxonomy: Taxonomy, text: str) -> None:
    assert all(mention.words for mention in taxonomy.mentions(text))
    taxonomy.find(text)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("genres: {}\nmoods: {sad: }\ninstruments: {piano: }", "genres"),
        ("genres: {Folk: }\nmoods: {sad: }\ninstruments: {piano: }", "genres.Folk: names are in lower case"),
        ("genres: {folk: {words: ['!']}}\nmoods: {sad: }\ninstruments: {piano: }", "genres.folk: an empty word"),
        ("genres: {folk: {implies: [sad]}}\nmoods: {sad: }\ninstruments: {piano: }", "refers to 'sad'"),
        ("genres: {folk: {against: [polka]}}\nmoods: {sad: }\ninstruments: {piano: }", "refers to 'polka'"),
        ("genres: {folk: {synonyms: [x]}}\nmoods: {sad: }\ninstruments: {piano: }", "genres.folk.synonyms"),
        ("genres: {folk: , folk: }", "stands twice"),
    ],
)
def test_mistakes_in_the_file_are_named(tmp_path: Path, content: str, said: str) -> None:
    path = tmp_path / "words.yaml"
    path.write_text(content)
    with pytest.raises(ValueError, match=r"words\.yaml") as refused:
        read_taxonomy(path)
    assert said in str(refused.value)
