"""From what the pictures show to frames: palettes of the mood, two layers of shapes that drift.

Mood sets the hues. Tempo sets how fast the shapes drift and how saturated they are, and they glow on
every beat. ``light`` sets how bright everything is; ``grain`` how many shapes share the same area, and
how angular they are. Where the shapes lie and which way they go is chance.
"""

import colorsys
from typing import Final

import numpy as np
from numpy.typing import NDArray

from components.corpus.world import Latents, Mood, World, bpm

WIDTH: Final = 160
HEIGHT: Final = 120
FPS: Final = 10
COVER: Final = 0.15  # share of the frame that one layer's shapes cover
PARALLAX: Final = (0.75, 1.25)  # speed of the far and the near layer against the mean

Mask = NDArray[np.float32]


def render_frames(world: World, shown: Latents, rng: np.random.Generator, length_s: float) -> NDArray[np.uint8]:
    """Draw ``length_s`` seconds at FPS; returns (frames, HEIGHT, WIDTH, 3) uint8 RGB."""
    tempo = float(np.clip(shown.tempo, -3, 3))
    light, grain = (float(np.clip(z, -3, 3)) for z in shown.nuance)
    ground, colours = palette(list(world.moods.values())[shown.mood], tempo, light)
    layers = [scatter(rng, _count(grain), 2.0 - 0.3 * grain) for _ in PARALLAX]
    heading = rng.uniform(0, 2 * np.pi)
    way = np.array([np.cos(heading), np.sin(heading)]) * 16 * 2 ** (0.55 * tempo)  # pixels per second
    count = round(length_s * FPS)
    frames = np.empty((count, HEIGHT, WIDTH, 3), np.uint8)
    for index in range(count):
        at_s = index / FPS
        beat = at_s * bpm(world, tempo) / 60 % 1
        glow = np.float32(0.86 + 0.14 * np.exp(-4 * beat))
        far, near = (drift(layer, *(way * speed * at_s)) * glow for layer, speed in zip(layers, PARALLAX, strict=True))
        behind = 1 - near
        seen = behind * far  # share of a pixel that shows the far layer; what both leave is ground
        for channel in range(3):
            frames[index, :, :, channel] = (
                ground[:, :, channel] * (behind - seen) + colours[0][channel] * seen + colours[1][channel] * near
            )
    return frames


def palette(mood: Mood, tempo: float, light: float) -> tuple[Mask, list[Mask]]:
    """Return the ground, a vertical gradient (HEIGHT, 1, 3), and the two layers' colours, 0 to 255."""
    saturation = float(np.clip(0.58 + 0.12 * tempo, 0.20, 0.95))
    value = float(np.clip(0.50 + 0.095 * light, 0.26, 0.80))
    first, second = mood.hues

    def rgb(hue: float, share: float, purity: float = 1.0) -> Mask:
        colour = colorsys.hsv_to_rgb(hue / 360 % 1, saturation * purity, min(1.0, value * share))
        return np.array(colour, np.float32) * 255

    slope = np.linspace(0, 1, HEIGHT, dtype=np.float32)[:, None, None]
    ground = rgb(first, 0.60) * (1 - slope) + rgb(first - 8, 0.76) * slope
    return ground, [rgb(second, 1.2, 0.8), rgb(second + 10, 1.5, 0.7)]


def scatter(rng: np.random.Generator, count: int, power: float) -> Mask:
    """Draw ``count`` shapes of equal size on a wrapped canvas; returns (HEIGHT, WIDTH) in 0..1.

    ``power`` is the exponent of the superellipse: 2 a disc, 1 a diamond, 3 nearly a square.
    """
    radius = np.sqrt(COVER * WIDTH * HEIGHT / count / 3.0)
    # A shuffled additive recurrence keeps shapes apart without a grid showing.
    order = rng.permutation(count) + rng.uniform(0, 1)
    x = (order * 0.7549 + rng.uniform()) % 1 * WIDTH
    y = (order * 0.5698 + rng.uniform()) % 1 * HEIGHT
    reach = int(np.ceil(radius)) + 2
    mask = np.zeros((HEIGHT, WIDTH), np.float32)
    for px, py in zip(x, y, strict=True):
        rows = np.arange(int(py) - reach, int(py) + reach + 1)[:HEIGHT]
        columns = np.arange(int(px) - reach, int(px) + reach + 1)[:WIDTH]
        dy, dx = np.abs(rows - py)[:, None] / radius, np.abs(columns - px)[None, :] / radius
        distance = (dx**power + dy**power) ** (1 / power)
        shape = np.clip((1 - distance) * radius / 1.5 + 0.5, 0, 1).astype(np.float32)
        place = np.ix_(rows % HEIGHT, columns % WIDTH)
        mask[place] = np.maximum(mask[place], shape)
    return mask


def drift(mask: Mask, right: float, down: float) -> Mask:
    """Shift a wrapped mask by a fraction of pixels (bilinear)."""
    columns, rows = int(np.floor(right)), int(np.floor(down))
    fx, fy = np.float32(right - columns), np.float32(down - rows)
    moved = np.roll(mask, (rows, columns), (0, 1))
    moved = moved + fx * (np.roll(moved, 1, 1) - moved)
    return np.asarray(moved + fy * (np.roll(moved, 1, 0) - moved), np.float32)


def _count(grain: float) -> int:
    return int(np.clip(round(6 * 2 ** (0.75 * grain)), 1, 30))
