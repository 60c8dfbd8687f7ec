"""The world: what is drawn, how each side errs, and that the task is neither trivial nor hopeless."""

import itertools
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import yaml

from components.corpus.demo import artist_of
from components.corpus.music import require_playable
from components.corpus.world import World, bpm, draw_clip, factors, read_world, truth_row
from components.evaluation.oracle import log_likelihood

WORLD = Path("components/corpus/world.yaml")


@pytest.fixture(scope="module")
def world() -> World:
    return read_world(WORLD)


def recall_at_10(scores: np.ndarray) -> float:
    """Ties count as in a random order: the expected share of queries with their own track in the first ten."""
    own = np.diag(scores)[:, None]
    above, level = (scores > own + 1e-9).sum(axis=1), (np.abs(scores - own) <= 1e-9).sum(axis=1)
    return float(np.clip((10 - above) / level, 0, 1).mean())


def test_oracle_leaves_room_for_both_sides(world: World) -> None:
    found = []
    for seed in range(4):
        rows = [truth_row(draw_clip(world, seed, index), str(index)) for index in range(1, 501)]
        video, text = (log_likelihood(side, rows, factors(world)) for side in ("video", "text"))
        found.append([recall_at_10(video), recall_at_10(text), recall_at_10(video + text)])
    means, errors = np.mean(found, axis=0), np.std(found, axis=0) / 2  # standard error of four pools
    for (low, high), mean, error in zip(((0.35, 0.55), (0.35, 0.55), (0.85, 0.97)), means, errors, strict=True):
        assert low - 2 * error <= mean <= high + 2 * error, (means, errors)


def test_clip_depends_on_seed_and_index_alone(world: World) -> None:
    assert draw_clip(world, 3, 17) == draw_clip(world, 3, 17)
    assert draw_clip(world, 3, 17) != draw_clip(world, 4, 17)
    assert draw_clip(world, 3, 17) != draw_clip(world, 3, 18)


def test_sides_err_at_the_stated_rates(world: World) -> None:
    clips = [draw_clip(world, 1, index) for index in range(4000)]

    def close(share: float, epsilon: float, count: int) -> bool:
        expected = epsilon * (1 - 1 / count)  # a fresh draw hits the old value now and then
        return abs(share - expected) < 4 * np.sqrt(expected * (1 - expected) / len(clips))

    noise = world.noise
    assert close(np.mean([c.text.genre != c.music.genre for c in clips]), noise.text_genre, len(world.genres))
    assert close(np.mean([c.text.mood != c.music.mood for c in clips]), noise.text_mood, len(world.moods))
    assert close(np.mean([c.video.mood != c.music.mood for c in clips]), noise.video_mood, len(world.moods))
    off = np.array([c.video.tempo - c.music.tempo for c in clips])
    assert abs(off.mean()) < 0.05 and off.std() == pytest.approx(noise.video_tempo, rel=0.05)
    nuance = np.array([np.subtract(c.video.nuance, c.music.nuance) for c in clips])
    assert nuance.std(axis=0) == pytest.approx([noise.video_nuance] * 2, rel=0.05)
    assert np.mean([len(c.text.instruments) == 2 for c in clips]) == pytest.approx(noise.second_instrument, abs=0.04)


def test_music_factors_are_standardised_and_playable(world: World) -> None:
    clips = [draw_clip(world, 2, index) for index in range(3000)]
    tempo = np.array([c.music.tempo for c in clips])
    assert abs(tempo.mean()) < 0.08 and tempo.std() == pytest.approx(1, abs=0.06)
    assert all(len(set(c.music.instruments)) == 3 for c in clips)
    assert set(np.unique([c.music.genre for c in clips])) == set(range(len(world.genres)))
    assert 50 < bpm(world, -99.0) < bpm(world, 0.0) < bpm(world, 99.0) < 200


def test_two_to_four_tracks_in_a_row_share_an_artist() -> None:
    artists = [artist_of(7, index) for index in range(1, 901)]
    assert artists[0] == 1 and all(b - a in (0, 1) for a, b in itertools.pairwise(artists))
    assert set(np.bincount(artists)[1:]) == {2, 3, 4}


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (lambda w: w["noise"].update(text_genre=1.5), "noise.text_genre"),
        (lambda w: w["genres"]["folk"].update(moods=["hungry"]), "genres.folk.moods"),
        (lambda w: w["moods"]["sad"].update(words=["unhappy"]), "sad.words"),
        (lambda w: w["instruments"].update(kazoo={"words": ["kazoo"]}), "instruments.kazoo: nothing plays it"),
        (lambda w: w["genres"].update(polka=dict(w["genres"]["folk"], words=["polka"])), "genres.polka: nothing plays"),
        (lambda w: w.update(nuances=["light"]), "nuances"),
    ],
)
def test_a_wrong_world_is_named(tmp_path: Path, change: Callable[[dict], None], named: str) -> None:
    world = yaml.safe_load(WORLD.read_text())
    change(world)
    path = tmp_path / "world.yaml"
    path.write_text(yaml.safe_dump(world, sort_keys=False))
    with pytest.raises(ValueError, match=named):
        require_playable(read_world(path))


def test_a_world_that_is_not_yaml_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "world.yaml"
    path.write_text("genres: [")
    with pytest.raises(ValueError, match="not a world description"):
        read_world(path)
