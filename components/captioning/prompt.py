"""The analogy prompt of ViML (CVPR 2023, section 3.1): A : A' :: B : ?"""

import re
from collections.abc import Sequence

from components.captioning.captioner import Exemplar, Tagged, chance
from components.modalities import TAG_GROUPS

PROMPT_VERSION = 1
INPUT, OUTPUT = "[Input]:", "[Output]:"

_MARKER = re.compile(r"\[\s*(?:input|output)\s*\]", re.IGNORECASE)
_MAX_CHARS = 600  # of a description; a longer one would push the others out of the model's window


def prompt(clip: Tagged, exemplars: Sequence[Exemplar]) -> str:
    """Return the prompt: each exemplar's tags and description, then the clip's tags.

    It ends right after the marker: a space there would be a token of its own, which the model has
    never seen before a word.
    """
    shown = [f"{INPUT} {tag_line(exemplar.clip)}\n{OUTPUT} {exemplar.text}\n" for exemplar in exemplars]
    return "".join(shown) + f"{INPUT} {tag_line(clip)}\n{OUTPUT}"


def tag_line(clip: Tagged) -> str:
    """Return e.g. ``GENRES: rock (30.8%); MOODS: happy (40.2%)``; groups without tags are left out."""
    groups = []
    for group in TAG_GROUPS:
        if clip.tags[group]:
            listed = ", ".join(f"{name} ({100 * probability:.1f}%)" for name, probability in clip.tags[group])
            groups.append(f"{group.upper()}: {listed}")
    return "; ".join(groups)


def usable_exemplars(exemplars: Sequence[Exemplar]) -> list[Exemplar]:
    """Return those that can stand in a prompt, on one line each, sorted by clip.

    A description with markers of its own would end the example early and write the next one: it
    is left out, and so are empty and endless ones and clips without tags.
    """
    kept = []
    for exemplar in sorted(exemplars, key=lambda item: item.clip.clip_id):
        text = " ".join(exemplar.text.split())
        if text and len(text) <= _MAX_CHARS and not _MARKER.search(text) and not exemplar.clip.is_empty:
            kept.append(Exemplar(exemplar.clip, text))
    return kept


def chosen_exemplars(clip: Tagged, pool: Sequence[Exemplar], count: int, sets: int, seed: int) -> list[Exemplar]:
    """Return the clip's exemplars: one of ``sets`` seeded choices, never the clip itself."""
    number = chance(seed, "set", clip.clip_id).randrange(sets)
    order = chance(seed, "members", str(number)).sample(range(len(pool)), len(pool))
    others = [pool[at] for at in order[: count + 1] if pool[at].clip.clip_id != clip.clip_id]
    return others[:count]


def answer(generated: str) -> str:
    """Return the caption in what a model wrote: its first line, up to any marker."""
    line = generated.strip().split("\n", 1)[0]
    return " ".join(_MARKER.split(line, maxsplit=1)[0].split())
