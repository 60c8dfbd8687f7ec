"""From what a describer tells to a sentence: varied, human, now and then beside the point.

People describe by ear: they use their own words for genre and mood, name an instrument or two, and
sometimes remark on what no tag covers. Names and titles are made here as well; no model reads those.
"""

from typing import Final

import numpy as np

from components.corpus.world import Latents, World

_FORMS: Final = (
    "{A} {mood} {genre} {piece} with {instruments}{aside}.",
    "{A} {genre} {piece} that feels {mood}, featuring {instruments}{aside}.",
    "{Mood} {genre} {piece} led by {instruments}{aside}.",
    "{Instruments} over {a_mood} {mood} {genre} {groove}{aside}.",
    "This is {a_genre} {genre} {piece}. It sounds {mood} and you can hear {instruments}{aside}.",
    "{Genre} {piece}, {mood} throughout, {instruments} up front{aside}.",
    "Sounds like {genre} music with {instruments}, the mood is {mood}{aside}.",
    "The {instruments} gives this {genre} {piece} {a_mood} {mood} feel{aside}.",
    "{Mood} and {genre}, {instruments} all the way through{aside}.",
    "I hear {instruments} in {a_mood} {mood} {genre} {piece}{aside}.",
)
_PIECES: Final = ("track", "piece", "song", "tune", "instrumental", "number")
_GROOVES: Final = ("backing", "groove", "arrangement", "background", "bed")
_JOINTS: Final = (" and ", " and some ", " plus ", ", also ")
_ASIDES: Final = (
    ", no vocals", ", no singing at all", ", with a bit of tape hiss", ", would fit a travel vlog", ", good for end credits",
    ", recorded a little too loud", ", could loop forever", ", someone counts in at the start", ", reminds me of a video game",
    ", the ending comes suddenly", ", nice for a cooking show", ", not very well mixed",
)  # fmt: skip

_FIRST: Final = ("Amber", "Silent", "Paper", "Northern", "Velvet", "Copper", "Distant", "Lucky", "Hollow", "Second", "Tidal", "Winter", "Borrowed", "Golden", "Idle", "Plain")  # fmt: skip
_SECOND: Final = ("Harbour", "Letters", "Garden", "Engines", "Lantern", "Parade", "Orchard", "Signal", "Rooms", "Compass", "Meadow", "Arcade", "Ferry", "Almanac", "Bridge", "Kites")  # fmt: skip
_BANDS: Final = ("The {} {}", "{} {}", "{} {} Ensemble", "{} {} Club")


def describe(world: World, told: Latents, rng: np.random.Generator) -> str:
    """Write one description of a track of which ``told`` is heard."""
    genre = _word(list(world.genres.values())[told.genre].words, world.plain_word, rng)
    mood = _word(list(world.moods.values())[told.mood].words, world.plain_word, rng)
    voices = list(world.instruments.values())
    named = [_word(voices[value].words, world.plain_word, rng) for value in told.instruments]
    instruments = _pick(_JOINTS, rng).join(dict.fromkeys(named))
    remark = _pick(_ASIDES, rng)
    aside = remark if rng.random() < world.aside else ""
    form = _pick(_FORMS, rng)
    sentence = form.format(
        A=_article(genre if "{A} {genre}" in form else mood).capitalize(),
        a_mood=_article(mood),
        a_genre=_article(genre),
        mood=mood,
        Mood=_capital(mood),
        genre=genre,
        Genre=_capital(genre),
        piece=_pick(_PIECES, rng),
        groove=_pick(_GROOVES, rng),
        instruments=instruments,
        Instruments=_capital(instruments),
        aside=aside,
    )
    return _as_typed(sentence, rng)


def artist_name(seed: int, number: int) -> str:
    """Make up the name of artist ``number`` (from 1); no two of the first thousand are alike."""
    pairs = len(_FIRST) * len(_SECOND)
    names = np.random.default_rng([seed, 8]).permutation(pairs * len(_BANDS))
    cycle, place = divmod(number - 1, len(names))
    band, pair = divmod(int(names[place]), pairs)
    name = _BANDS[band].format(_FIRST[pair // len(_SECOND)], _SECOND[pair % len(_SECOND)])
    return f"{name} {cycle + 1}" if cycle else name


def track_title(rng: np.random.Generator) -> str:
    """Make up a track's title; it says nothing about the sound."""
    first, second = _pick(_FIRST, rng), _pick(_SECOND, rng)
    return _pick((f"{first} {second}", f"{second} for {first} Days", f"{second}, {first}", f"One More {second}"), rng)


def _word(words: tuple[str, ...], plain: float, rng: np.random.Generator) -> str:
    others = words[1:] or words
    other = others[int(rng.integers(len(others)))]
    return words[0] if rng.random() < plain else other


def _pick(choices: tuple[str, ...], rng: np.random.Generator) -> str:
    return choices[int(rng.integers(len(choices)))]


def _article(word: str) -> str:
    return "an" if word[0] in "aeiou" else "a"


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]


def _as_typed(sentence: str, rng: np.random.Generator) -> str:
    """Leave capitals or the full stop away as often as people do."""
    careless = rng.random()
    if careless < 0.15:
        return sentence.lower().removesuffix(".")
    return sentence.removesuffix(".") if careless < 0.3 else sentence
