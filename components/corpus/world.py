"""The demo's world: what a clip is made of, what each side shows of it, and how it is drawn.

``world.yaml`` states the factors and the rates at which the pictures and the description err. Clip
``i`` depends on the seed and ``i`` alone, so a larger corpus begins with the smaller one.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import numpy as np
import yaml
from pydantic import Field, ValidationError, model_validator

from components.settings import Section

SHOWN = 3  # instruments that play in a track

Probability = Annotated[float, Field(ge=0, lt=1)]
Sigma = Annotated[float, Field(gt=0)]
Words = Annotated[tuple[str, ...], Field(min_length=1)]


class Noise(Section):
    """How far the pictures and the description stray from the music."""

    text_genre: Probability
    """Probability that the genre told is drawn afresh, uniformly."""
    text_mood: Probability
    """The same for the mood told."""
    text_instrument: Probability
    """The same for each instrument named."""
    second_instrument: Probability
    """Probability that a second instrument is named."""
    video_mood: Probability
    """Probability that the mood shown is drawn afresh, uniformly."""
    video_tempo: Sigma
    """Standard deviation of the noise on the tempo shown; tempo itself has unit variance."""
    video_nuance: Sigma
    """The same for each nuance dimension."""


class TempoScale(Section):
    """From the standardised tempo to beats per minute."""

    centre_bpm: Annotated[float, Field(ge=60, le=140)]
    """Beats per minute at zero."""
    octaves_per_sd: Annotated[float, Field(gt=0, le=0.5)]
    """Doublings per standard deviation."""


class Genre(Section):
    """A genre: its words and what usually goes with it. ``patterns.py`` knows how it is played."""

    words: Words
    """What describers call it; the tag's own name first."""
    tempo: Annotated[float, Field(ge=-2, le=2)]
    """Mean of the standardised tempo."""
    moods: Words
    """Usual moods."""
    instruments: Words
    """Usual instruments."""


class Mood(Section):
    """A mood: its words, its key and mode, its colours."""

    words: Words
    """What describers call it; the tag's own name first."""
    root: Annotated[int, Field(ge=0, le=11)]
    """Pitch class of the key, 0 = C."""
    scale: Annotated[tuple[int, ...], Field(min_length=5)]
    """Semitones above the root."""
    shift: Annotated[int, Field(ge=-12, le=12)]
    """Semitones by which melodies are shifted."""
    hues: tuple[float, float]
    """Background and shapes, degrees on the colour circle."""


class Instrument(Section):
    """An instrument's words; ``synth.py`` knows how it sounds."""

    words: Words
    """What describers call it; the tag's own name first."""


class World(Section):
    """The whole description; lists are in file order and factor values are positions in them."""

    noise: Noise
    """Error rates of both sides."""
    tempo: TempoScale
    """Meaning of the tempo factor."""
    nuance: tuple[Literal["light"], Literal["grain"]]
    """Names of the continuous dimensions, as ``music.py`` and ``pictures.py`` know them."""
    usual_mood: Probability
    """Probability that a mood is one of the genre's usual ones."""
    usual_instrument: Annotated[float, Field(ge=1)]
    """Weight of a genre's usual instruments against the others'."""
    plain_word: Probability
    """Probability that a describer uses the tag's own name."""
    aside: Probability
    """Probability of a remark that no tag covers."""
    genres: dict[str, Genre]
    """Genres by name."""
    moods: dict[str, Mood]
    """Moods by name."""
    instruments: Annotated[dict[str, Instrument], Field(min_length=SHOWN)]
    """Instruments by name."""

    @model_validator(mode="after")
    def _names_exist(self) -> Self:
        for group in (self.genres, self.moods, self.instruments):
            for name, entry in group.items():
                if entry.words[0] != name:
                    raise ValueError(f"{name}.words: the first word must be the tag's own name, '{name}'")
        for name, genre in self.genres.items():
            for key, known in (("moods", self.moods), ("instruments", self.instruments)):
                for word in getattr(genre, key):
                    if word not in known:
                        raise ValueError(f"genres.{name}.{key}: '{word}' is not in '{key}'")
        return self


@dataclass(frozen=True)
class Latents:
    """The factors of one track, or what one side shows of them."""

    genre: int
    mood: int
    instruments: tuple[int, ...]
    tempo: float
    nuance: tuple[float, ...]


@dataclass(frozen=True)
class Clip:
    """One drawn clip: the music's factors, and what the pictures and the description show."""

    index: int
    music: Latents
    video: Latents  # genre and instruments are not shown: they repeat the music's and are not drawn
    text: Latents  # tempo and nuance are not told; instruments holds the one or two that are named


def read_world(path: Path) -> World:
    """Read and check a world description.

    Raises:
        ValueError: not a readable world; the message names the file and the key.
    """
    try:
        return World.model_validate(yaml.safe_load(path.read_text(encoding="utf-8")))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ValueError(f"{path}: not a world description (YAML): {' '.join(str(error).split())}") from None
    except ValidationError as error:
        first = error.errors()[0]
        raise ValueError(f"{path}: {'.'.join(map(str, first['loc']))}: {first['msg']}") from None


def stream(seed: int, index: int, purpose: int) -> np.random.Generator:
    """Return the random numbers of one purpose of one clip: independent of every other clip's."""
    return np.random.default_rng([seed, purpose, index])


def draw_clip(world: World, seed: int, index: int) -> Clip:
    """Draw clip ``index``: its music, then what each side shows of it."""
    rng = stream(seed, index, 1)
    music = _draw_music(world, rng)
    noise = world.noise

    def again(value: int, count: int, probability: float) -> int:
        fresh = int(rng.integers(count))  # drawn always, so that a changed rate moves nothing else
        return fresh if rng.random() < probability else value

    video = Latents(
        genre=music.genre,
        mood=again(music.mood, len(world.moods), noise.video_mood),
        instruments=music.instruments,
        tempo=music.tempo + noise.video_tempo * float(rng.standard_normal()),
        nuance=tuple(z + noise.video_nuance * float(rng.standard_normal()) for z in music.nuance),
    )
    named = rng.permutation(music.instruments)[: 2 if rng.random() < noise.second_instrument else 1]
    told = [again(int(value), len(world.instruments), noise.text_instrument) for value in named]
    text = Latents(
        genre=again(music.genre, len(world.genres), noise.text_genre),
        mood=again(music.mood, len(world.moods), noise.text_mood),
        instruments=tuple(told),
        tempo=music.tempo,
        nuance=music.nuance,
    )
    return Clip(index, music, video, text)


def _draw_music(world: World, rng: np.random.Generator) -> Latents:
    place = int(rng.integers(len(world.genres)))
    genre = list(world.genres.values())[place]
    moods, instruments = list(world.moods), list(world.instruments)
    usual, any_mood = rng.integers(len(genre.moods)), rng.integers(len(moods))
    mood = moods.index(genre.moods[usual]) if rng.random() < world.usual_mood else int(any_mood)
    weights = np.array([world.usual_instrument if name in genre.instruments else 1.0 for name in instruments])
    # Gumbel keys: a weighted draw without replacement.
    keys = np.log(weights) + rng.gumbel(size=len(instruments))
    playing = np.sort(np.argsort(-keys)[:SHOWN])
    means = np.array([entry.tempo for entry in world.genres.values()])
    residual = float(np.sqrt(max(0.1, 1.0 - means.var())))
    return Latents(
        genre=place,
        mood=mood,
        instruments=tuple(int(i) for i in playing),
        tempo=float(genre.tempo - means.mean() + residual * rng.standard_normal()),
        nuance=tuple(float(z) for z in rng.standard_normal(len(world.nuance))),
    )


def bpm(world: World, tempo: float) -> float:
    """Beats per minute of a standardised tempo, held within playable limits."""
    return float(world.tempo.centre_bpm * 2 ** (world.tempo.octaves_per_sd * np.clip(tempo, -2.5, 2.5)))


def truth_row(clip: Clip, video_id: str) -> dict[str, Any]:
    """Return the clip's row of ``truth.parquet``: per factor what the music has and each side shows."""
    music, video, text = clip.music, clip.video, clip.text
    return {
        "video_id": video_id,
        "music_genre": music.genre, "video_genre": None, "text_genre": text.genre,
        "music_mood": music.mood, "video_mood": video.mood, "text_mood": text.mood,
        "music_instruments": list(music.instruments), "video_instruments": None, "text_instruments": list(text.instruments),
        "music_tempo": [music.tempo], "video_tempo": [video.tempo], "text_tempo": None,
        "music_nuance": list(music.nuance), "video_nuance": list(video.nuance), "text_nuance": None,
    }  # fmt: skip


def factors(world: World) -> dict[str, dict[str, Any]]:
    """Return what ``truth.parquet`` says of each factor: its kind, its values, and how each side errs."""
    noise = world.noise
    return {
        "genre": {"type": "categorical", "cardinality": len(world.genres), "values": list(world.genres),
                  "text_epsilon": noise.text_genre},
        "mood": {"type": "categorical", "cardinality": len(world.moods), "values": list(world.moods),
                 "text_epsilon": noise.text_mood, "video_epsilon": noise.video_mood},
        "instruments": {"type": "subset", "cardinality": len(world.instruments), "values": list(world.instruments),
                        "size": SHOWN, "text_epsilon": noise.text_instrument},
        "tempo": {"type": "gaussian", "dims": 1, "video_sigma": noise.video_tempo},
        "nuance": {"type": "gaussian", "dims": len(world.nuance), "values": list(world.nuance),
                   "video_sigma": noise.video_nuance},
    }  # fmt: skip
