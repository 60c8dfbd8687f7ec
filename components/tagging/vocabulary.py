"""From a tagger's labels to the taxonomy's tags; what has no place there is kept in sight."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from components.modalities import TAG_GROUPS
from components.taxonomy import Tag, Taxonomy

_PARTS = "---"  # MTG-Jamendo's labels are like genre---rock


@dataclass(frozen=True)
class Vocabulary:
    """L labels, and the tags that each stands for: none, one, or several; T tags in all."""

    labels: tuple[str, ...]
    meant: tuple[tuple[Tag, ...], ...]
    outside: tuple[Tag, ...] = ()
    """Tags that the taxonomy does not have (those of a probe, which brings its own groups)."""

    def __post_init__(self) -> None:
        """Scores are found again by their labels."""
        twice = [label for label, count in Counter(self.labels).items() if count > 1]
        if twice:
            raise ValueError(f"tagging: label {twice[0]!r} stands twice among the tagger's labels")

    @cached_property
    def tags(self) -> list[Tag]:
        """Return the T tags in the order of the groups, then by name."""
        return sorted({tag for tags in self.meant for tag in tags}, key=lambda tag: (TAG_GROUPS.index(tag[0]), tag[1]))

    @cached_property
    def unmapped(self) -> tuple[str, ...]:
        """Return the labels that stand for no tag."""
        return tuple(label for label, tags in zip(self.labels, self.meant, strict=True) if not tags)

    @cached_property
    def entries(self) -> list[tuple[int, Tag | None]]:
        """Return (label, tag) for each pair that belongs together, (label, None) for unmapped ones."""
        return [(at, tag) for at, tags in enumerate(self.meant) for tag in (tags or (None,))]

    def of_tags(self, scores: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return (N, T): the highest of the scores (N, L) whose labels stand for a tag."""
        columns = [[at for at, tag in self.entries if tag == wanted] for wanted in self.tags]
        return np.stack([scores[:, at].max(axis=1) for at in columns], axis=1) if columns else scores[:, :0]

    def document(self) -> dict[str, Any]:
        """Return what vocabulary.json holds."""
        return {
            "labels": [
                {"label": label, "tags": [list(tag) for tag in tags]}
                for label, tags in zip(self.labels, self.meant, strict=True)
            ],
            "unmapped": list(self.unmapped),
            "outside_the_taxonomy": [list(tag) for tag in self.outside],
        }


def mapped(labels: Sequence[str], taxonomy: Taxonomy) -> Vocabulary:
    """Return the vocabulary of a tagger that knows labels only."""
    return Vocabulary(tuple(labels), tuple(taxonomy.find(spoken(label)) for label in labels))


def given(tags: Sequence[Tag], taxonomy: Taxonomy) -> Vocabulary:
    """Return the vocabulary of a tagger whose labels have their groups already; all of them stay."""
    outside = tuple(tag for tag in tags if tag not in taxonomy.entries)
    groups = Counter(name for _, name in tags)
    labels = tuple(name if groups[name] == 1 else f"{name} ({group})" for group, name in tags)
    return Vocabulary(labels, tuple((tag,) for tag in tags), outside)


def spoken(label: str) -> str:
    """Return a label without the group in front of it: genre---rock is rock."""
    return label.rsplit(_PARTS, 1)[-1]


def read_labels(path: Path) -> tuple[str, ...]:
    """Read labels, one per line, or from a .npy array of text (pickled ones are refused).

    Raises:
        ValueError: the file is missing, unreadable, empty, or has a label twice; it is named.
    """
    try:
        if path.suffix == ".npy":
            array = np.load(path, allow_pickle=False)
            if array.dtype.kind != "U" or array.ndim != 1:
                raise ValueError(f"an array of {array.dtype}, expected one row of text")
            labels = [str(label).strip() for label in array]
        else:
            labels = [line.strip() for line in path.read_text(encoding="utf-8").splitlines()]
    except FileNotFoundError:
        raise ValueError(f"{path}: no such file of labels") from None
    except (ValueError, OSError) as error:
        raise ValueError(f"{path}: not a list of labels ({error})") from None
    labels = [label for label in labels if label]
    if not labels:
        raise ValueError(f"{path}: no labels in it")
    if len(set(labels)) < len(labels):
        raise ValueError(f"{path}: a label stands twice: {Counter(labels).most_common(1)[0][0]!r}")
    return tuple(labels)
