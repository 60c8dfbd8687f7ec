"""Video features: numbers that say what is seen."""

import numpy as np
import pytest

from components.features.colour import colour, grid_means
from components.features.motion import motion
from components.features.params import EmbeddedParams
from components.features.shapes import detail, edges, things
from components.features.video import VIDEO_DIMS, describe_pictures

HEIGHT, WIDTH = 72, 96


def plain(red: float, green: float, blue: float) -> np.ndarray:
    """One picture of one colour, as planes (3, 1, h, w)."""
    return np.broadcast_to(np.array([red, green, blue], np.float32)[:, None, None, None], (3, 1, HEIGHT, WIDTH)).copy()


def with_squares(count: int, size: int) -> np.ndarray:
    planes = plain(0.2, 0.2, 0.2)
    for number in range(count):
        row, column = 8 + 20 * (number // 4), 8 + 20 * (number % 4)
        planes[:, :, row : row + size, column : column + size] = 0.9
    return planes


@pytest.mark.parametrize(
    ("rgb", "turn"), [((1, 0, 0), 0), ((1, 1, 0), 4), ((0, 1, 0), 8), ((0, 0, 1), 16), ((1, 0, 0.5), 22)]
)
def test_the_hue_histogram_finds_the_hue(rgb: tuple[float, float, float], turn: int) -> None:
    hues = colour(plain(*rgb))[0, 10:34]
    assert abs(int(hues.argmax()) - turn) <= 1 and np.isclose(hues.max(), 4, atol=0.1)


def test_grey_has_no_hue_and_histograms_sum_to_one() -> None:
    row = colour(plain(0.5, 0.5, 0.5))[0]
    assert not row[10:34].any()
    assert np.isclose(((row[34:40] / 4) ** 2).sum(), 1) and np.isclose(((row[40:48] / 4) ** 2).sum(), 1)


def test_grid_means_follow_the_picture() -> None:
    picture = np.zeros((1, 9, 9), np.float32)
    picture[0, :3, 6:] = 1
    np.testing.assert_allclose(grid_means(picture)[0], [0, 0, 1, 0, 0, 0, 0, 0, 0])


def test_edge_directions_tell_stripes_apart() -> None:
    upright = np.tile((np.arange(WIDTH) // 8 % 2).astype(np.float32), (1, HEIGHT, 1))
    flat = np.tile((np.arange(HEIGHT) // 8 % 2).astype(np.float32)[:, None], (1, 1, WIDTH))
    assert edges(upright)[0, 3:11].argmax() == 0 and edges(flat)[0, 3:11].argmax() == 4
    assert not edges(np.zeros((1, HEIGHT, WIDTH), np.float32))[0].any()


def test_fine_detail_has_more_energy_in_the_outer_rings() -> None:
    def stripes(width: int) -> np.ndarray:
        return np.tile((np.arange(WIDTH) // width % 2).astype(np.float32), (1, HEIGHT, 1))

    assert detail(stripes(16))[0].argmax() < detail(stripes(3))[0].argmax()


@pytest.mark.parametrize("count", [1, 3, 8])
def test_things_are_counted_and_measured(count: int) -> None:
    row = things(with_squares(count, 10))[0]
    area, number = row[4 + 9 : 4 + 11]  # at the middle contrast
    assert np.isclose(np.expm1(number), count, atol=0.01)
    assert np.isclose(area / 4, count * 100 / (HEIGHT * WIDTH), rtol=0.01)
    np.testing.assert_allclose(row[:3], 0.2, atol=1e-6)


def test_an_empty_picture_has_no_things() -> None:
    row = things(plain(0.3, 0.4, 0.5))[0]
    assert not row[4:31].any()


def moving(pixels_per_picture: int, pictures: int = 40) -> np.ndarray:
    luma = np.zeros((pictures, HEIGHT, WIDTH), np.float32)
    for at in range(pictures):
        first = 4 + (pixels_per_picture * at) % 60
        luma[at, 20:40, first : first + 20] = 1
    return luma


def test_faster_motion_has_higher_speed_and_stillness_none() -> None:
    masks = np.ones((1, 40), bool)
    speeds = [motion(moving(step), masks, 10.0)[0, 1] for step in (0, 1, 3)]
    assert speeds[0] == 0 < speeds[1] < speeds[2]


def test_motion_is_placed_where_it_is() -> None:
    luma = np.zeros((20, HEIGHT, WIDTH), np.float32)
    luma[::2, 50:70, 70:90] = 1
    where = motion(luma, np.ones((1, 20), bool), 10.0)[0, 26:35]
    assert where.argmax() == 8 and (where[:8] < where[8] / 2).all()


def test_a_flash_on_every_beat_shows_in_the_rhythm() -> None:
    luma = np.full((80, HEIGHT, WIDTH), 0.2, np.float32)
    luma[::5] = 0.8  # twice a second at 10 fps: 120 per minute
    rhythm = motion(luma, np.ones((1, 80), bool), 10.0)[0, 35:].reshape(5, 24)[1]
    grid = np.geomspace(45, 240, 24)
    near = np.abs(np.log2(grid / 120)) < 0.1
    assert rhythm[near].max() > 0.6 > rhythm[np.abs(np.log2(grid / 170)) < 0.1].max()


@pytest.mark.parametrize("fill", [0, 255])
def test_features_have_the_stated_width_also_for_one_blank_picture(section: EmbeddedParams, fill: int) -> None:
    for count in (1, 3, 40):
        frames = np.full((count, HEIGHT, WIDTH, 3), fill, np.uint8)
        times = np.arange(count) / 10
        features = describe_pictures(frames, times, [0.0, 2.0], 2.0, section.video)
        assert features.shape == (2, VIDEO_DIMS) and np.abs(features).max() < 1000
