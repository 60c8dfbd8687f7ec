"""How a model wants its pictures: size, crop and scale, as the file beside its weights says.

The library's own processors of moving pictures need packages that are not installed here; and
frames can be scaled while they are decoded, which costs least.
"""

import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

_FILES = (
    ("preprocessor_config.json", None),
    ("video_preprocessor_config.json", None),
    ("processor_config.json", "image_processor"),
    ("processor_config.json", "video_processor"),
)


@dataclass(frozen=True)
class Pixels:
    """Size and scale of pictures; sizes in pixels."""

    fit: Literal["stretch", "crop", "patches"]
    """stretch: to width x height; crop: shorter side to ``short``, middle of width x height kept; patches: as many
    whole patches as the model takes, the picture's shape kept."""
    width: int
    height: int
    short: int
    patch: int
    patches: int
    mean: tuple[float, ...]
    deviation: tuple[float, ...]
    scale: float
    """Factor that brings 0..255 to what ``mean`` and ``deviation`` are of."""

    def decoded(self, width: int, height: int) -> tuple[int, int]:
        """Return the (width, height) to which a picture of the given size is scaled."""
        if self.fit == "stretch":
            return self.width, self.height
        if self.fit == "patches":
            return _whole_patches(width, height, self.patch, self.patches)
        # The longer side is rounded down, as the library does.
        if width <= height:
            return self.short, max(self.height, int(self.short * height / width))
        return max(self.width, int(self.short * width / height)), self.short

    def kept(self, width: int, height: int) -> tuple[slice, slice]:
        """Return the rows and columns kept of a scaled picture."""
        if self.fit != "crop":
            return slice(None), slice(None)
        top, left = (height - self.height) // 2, (width - self.width) // 2
        return slice(top, top + self.height), slice(left, left + self.width)


def read_pixels(folder: Path) -> Pixels:
    """Read what prepares pictures for the model in ``folder``.

    Raises:
        ValueError: no file says so, or it lacks a key; file and key are named.
    """
    path, said = _find(folder)
    try:
        normal = said.get("do_normalize", True)
        mean = tuple(map(float, said["image_mean"])) if normal else (0.0,) * 3
        deviation = tuple(map(float, said["image_std"])) if normal else (1.0,) * 3
        scale = float(said.get("rescale_factor", 1 / 255)) if said.get("do_rescale", True) else 1.0
        if len(mean) != 3 or len(deviation) != 3 or not all(deviation):
            raise ValueError("image_mean and image_std must be three numbers each")
        if "max_num_patches" in said:
            patch, patches = int(said["patch_size"]), int(said["max_num_patches"])
            return Pixels("patches", 0, 0, 0, patch, patches, mean, deviation, scale)
        size = said["size"]
        short = size if isinstance(size, int) else size.get("shortest_edge")
        if short is None:
            return Pixels("stretch", int(size["width"]), int(size["height"]), 0, 0, 0, mean, deviation, scale)
        crop = said.get("crop_size", short) if said.get("do_center_crop", True) else short
        width, height = (crop, crop) if isinstance(crop, int) else (int(crop["width"]), int(crop["height"]))
        if max(width, height) > int(short):
            raise ValueError(f"crop_size {width} x {height} is larger than size {short}")
        return Pixels("crop", width, height, int(short), 0, 0, mean, deviation, scale)
    except KeyError as error:
        raise ValueError(f"{path}: {error.args[0]} is missing; it tells how pictures are prepared") from None
    except (TypeError, ValueError, AttributeError) as error:
        raise ValueError(f"{path}: does not tell how pictures are prepared: {error}") from None


def _find(folder: Path) -> tuple[Path, dict[str, Any]]:
    for name, part in _FILES:
        path = folder / name
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            continue
        except (OSError, ValueError) as error:
            raise ValueError(f"{path}: damaged ({error})") from None
        said = content.get(part) if part and isinstance(content, dict) else content
        if isinstance(said, dict) and {"size", "image_mean", "max_num_patches"} & set(said):
            return path, said
    raise ValueError(f"{folder}: no preprocessor_config.json tells how pictures are prepared")


def _whole_patches(width: int, height: int, patch: int, most: int) -> tuple[int, int]:
    """Return the largest size of the picture's shape, each side rounded up to whole patches, of at most ``most``.

    As SigLIP 2 was trained (Tschannen et al., 2025, section 2.4.2); halving finds the scale.
    """

    def sides(scale: float) -> tuple[int, int]:
        return max(1, math.ceil(width * scale / patch)), max(1, math.ceil(height * scale / patch))

    low, high = 1e-6, 100.0
    while high - low >= 1e-5:
        middle = (low + high) / 2
        across, down = sides(middle)
        low, high = (middle, high) if across * down <= most else (low, middle)
    across, down = sides(low)
    return across * patch, down * patch
