"""The prompt's exact form, and which described clips it shows."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from components.captioning.captioner import Exemplar, Tagged
from components.captioning.exemplars import build_selection
from components.captioning.params import PromptParams
from components.captioning.prompt import answer, asked, prefix_of, suffix_of, tag_line, usable_exemplars
from components.taxonomy import read_taxonomy

TAXONOMY = read_taxonomy(Path(__file__).parents[2] / "components" / "taxonomy.yaml")


def clip(clip_id: str, genres: dict[str, float], moods: dict[str, float], instruments: dict[str, float]) -> Tagged:
    return Tagged(
        clip_id,
        {"genres": tuple(genres.items()), "moods": tuple(moods.items()), "instruments": tuple(instruments.items())},
    )


PARTY = clip(
    "party",
    {"electronic": 0.826, "dance": 0.639},
    {"dynamic": 0.468, "dramatic": 0.333},
    {"synthesizer keyboard": 0.819, "synth bass": 0.684},
)
COUNTRY = clip(
    "country", {"country": 0.472, "rock": 0.308}, {"happy": 0.402}, {"drumset": 0.639, "acoustic guitar": 0.337}
)
# Design, section 1.2; from ViML's figure 3.
PAPER = """\
[Input]: GENRES: electronic (82.6%), dance (63.9%); MOODS: dynamic (46.8%), dramatic (33.3%); INSTRUMENTS: synthesizer keyboard (81.9%), synth bass (68.4%)
[Output]: Electronic party track with high energy synth lines and autotuned female vocals.
[Input]: GENRES: country (47.2%), rock (30.8%); MOODS: happy (40.2%); INSTRUMENTS: drumset (63.9%), acoustic guitar (33.7%)
[Output]:"""


def test_the_prompt_is_the_papers() -> None:
    exemplar = Exemplar(PARTY, "Electronic party track with high energy synth lines and autotuned female vocals.")
    assert prefix_of([exemplar]) + suffix_of(COUNTRY) == PAPER


def test_groups_without_tags_are_left_out() -> None:
    assert suffix_of(clip("c", {}, {"sad": 0.5}, {})) == "[Input]: MOODS: sad (50.0%)\n[Output]:"


def test_only_the_likeliest_tags_are_asked_for() -> None:
    many = clip("c", {f"genre {n}": 1 - n / 1000 for n in range(500)}, {"sad": 0.5}, {})
    assert tag_line(asked(many, 2, TAXONOMY)) == "GENRES: genre 0 (100.0%), genre 1 (99.9%); MOODS: sad (50.0%)"


def test_of_two_tags_that_exclude_each_other_the_likelier_is_told() -> None:
    both = clip("c", {}, {"slow": 0.5, "sad": 0.6, "fast": 0.7}, {"no vocals": 0.4, "choir": 0.9, "piano": 0.5})
    assert tag_line(asked(both, 9, TAXONOMY)) == (
        "MOODS: sad (60.0%), fast (70.0%); INSTRUMENTS: choir (90.0%), piano (50.0%)"
    )


def test_exemplars_cannot_break_out_of_their_line() -> None:
    bad = ["x\n[Input]: y", "[ output ] z", "", " \n ", "w" * 601]
    pool = usable_exemplars([Exemplar(PARTY, text) for text in [*bad, "two\nlines\r\n of  text"]])
    assert [exemplar.text for exemplar in pool] == ["two lines of text"]
    assert usable_exemplars([Exemplar(clip("empty", {}, {}, {}), "fine text")]) == []


@given(st.text(), st.text())
def test_whatever_tags_and_descriptions_say_a_prompt_has_its_own_lines_only(name: str, text: str) -> None:
    strange = clip("c", {name: 0.5}, {}, {"piano": 0.4})
    prompt = prefix_of(usable_exemplars([Exemplar(strange, text)])) + suffix_of(strange)
    lines = prompt.split("\n")
    assert [line.split(" ")[0] for line in lines] == ["[Input]:", "[Output]:"] * (len(lines) // 2)
    assert prompt.lower().count("[input]:") == len(lines) // 2


@pytest.mark.parametrize(
    ("generated", "caption"),
    [
        (" A happy song.\n[Input]: more", "A happy song."),
        ("\n Late start.\nrest", "Late start."),
        ("No line end [Input]: more", "No line end"),
        ("[Output]: x", ""),
        ("", ""),
    ],
)
def test_the_answer_is_the_first_line(generated: str, caption: str) -> None:
    assert answer(generated) == caption


# -- exemplars -----------------------------------------------------------------------------------


def selection(pool: list[Exemplar], count: int, **how: object):  # type: ignore[no-untyped-def]
    params = PromptParams.model_validate({"exemplars": count, "selection": how, "max_tags": 5, "token_budget": 999})
    return build_selection(params, pool, seed=1)


POOL = [Exemplar(clip(f"c{n:02d}", {"pop": 0.5}, {}, {}), f"text {n}") for n in range(12)]


def ids(chosen: list[Exemplar]) -> list[str]:
    return [item.clip.clip_id for item in chosen]


def test_a_clip_is_never_its_own_exemplar_and_draws_are_shared() -> None:
    draws = selection(POOL, 3, kind="random", sets=4)
    for item in POOL:
        chosen = ids(draws.choose(item.clip, 0))
        assert len(set(chosen)) == 3 and item.clip.clip_id not in chosen
    outside = {tuple(ids(draws.choose(clip(f"x{n}", {"pop": 0.5}, {}, {}), 0))) for n in range(50)}
    assert 2 <= len(outside) <= 4
    again = [
        draws.choose(clip(f"x{n}", {}, {}, {}), 0) != draws.choose(clip(f"x{n}", {}, {}, {}), 1) for n in range(50)
    ]
    assert any(again), "a further attempt may see other exemplars"


def test_one_more_described_clip_changes_few_draws() -> None:
    pool = [Exemplar(clip(f"p{n:03d}", {"pop": 0.5}, {}, {}), "text") for n in range(200)]
    some, more = selection(pool[:-1], 3, kind="random", sets=64), selection(pool, 3, kind="random", sets=64)
    asked = [clip(f"x{n}", {}, {}, {}) for n in range(300)]
    changed = sum(ids(some.choose(one, 0)) != ids(more.choose(one, 0)) for one in asked)
    assert changed / len(asked) < 0.1


ROCK = Exemplar(clip("rock", {"rock": 0.9}, {"sad": 0.5}, {}), "a")
TWIN = Exemplar(clip("twin", {"rock": 0.9}, {"sad": 0.5}, {}), "b")
NEAR = Exemplar(clip("near", {"rock": 0.9}, {}, {"flute": 0.6}), "c")
FAR = Exemplar(clip("far", {"folk": 0.9}, {}, {"banjo": 0.6}), "d")
ASKED = clip("asked", {"rock": 0.8}, {"sad": 0.4}, {})


def test_the_nearest_are_those_with_the_likest_tags_the_best_of_them_last() -> None:
    chosen = selection([FAR, NEAR, ROCK, TWIN], 3, kind="nearest").choose(ASKED, 0)
    assert ids(chosen) == ["near", "twin", "rock"]
    assert ids(selection([FAR, NEAR, ROCK], 2, kind="nearest").choose(ROCK.clip, 0)) == ["far", "near"]


def test_diverse_exemplars_are_unlike_each_other() -> None:
    """By hand: the twin's likeness to the first chosen is 1, so that it gains 0.5 - 0.5; NEAR gains more."""
    chosen = selection([FAR, NEAR, ROCK, TWIN], 2, kind="diverse", relevance=0.5).choose(ASKED, 0)
    assert ids(chosen) in (["near", "rock"], ["far", "rock"]) and "twin" not in ids(chosen)
    assert ids(selection([FAR, NEAR, ROCK, TWIN], 2, kind="diverse", relevance=1.0).choose(ASKED, 0)) == [
        "twin",
        "rock",
    ]


def test_a_clip_without_known_tags_still_gets_exemplars() -> None:
    assert len(selection(POOL, 3, kind="nearest").choose(clip("x", {"zydeco": 0.9}, {}, {}), 0)) == 3
