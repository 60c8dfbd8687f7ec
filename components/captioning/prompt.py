"""The analogy prompt of ViML (CVPR 2023, section 3.1): A : A' :: B : ?"""

import hashlib
import re
from collections.abc import Sequence
from typing import Final

from components.captioning.captioner import Exemplar, Tagged
from components.modalities import TAG_GROUPS
from components.taxonomy import Taxonomy

INPUT, OUTPUT = "[Input]:", "[Output]:"
# A prompt ends right after the marker: a space there would be a token of its own, which a model has
# never seen before a word.
TEMPLATE: Final = {
    "group": "{GROUP}: {tags}",
    "tag": "{name} ({percent:.1f}%)",
    "between_tags": ", ",
    "between_groups": "; ",
    "exemplar": f"{INPUT} {{line}}\n{OUTPUT} {{text}}\n",
    "query": f"{INPUT} {{line}}\n{OUTPUT}",
}
# The same for people and registries, with MLflow's marks for variables.
TEMPLATE_TEXT: Final = f"{INPUT} {{{{exemplar_tags}}}}\n{OUTPUT} {{{{exemplar_text}}}}\n{INPUT} {{{{tags}}}}\n{OUTPUT}"
TEMPLATE_DIGEST: Final = hashlib.sha256(repr(sorted(TEMPLATE.items())).encode()).hexdigest()[:12]

_MARKER = re.compile(r"\[\s*(?:input|output)\s*\]", re.IGNORECASE)
_MAX_CHARS = 600  # of a description; a longer one would push the others out of the model's window


def prefix_of(exemplars: Sequence[Exemplar]) -> str:
    """Return the exemplars' lines: all that clips with the same exemplars share."""
    return "".join(TEMPLATE["exemplar"].format(line=tag_line(item.clip), text=item.text) for item in exemplars)


def suffix_of(clip: Tagged) -> str:
    """Return the clip's own lines, which the model continues."""
    return TEMPLATE["query"].format(line=tag_line(clip))


def tag_line(clip: Tagged) -> str:
    """Return e.g. ``GENRES: rock (30.8%); MOODS: happy (40.2%)``; groups without tags are left out."""
    groups = []
    for group in TAG_GROUPS:
        if clip.tags[group]:
            tags = [
                TEMPLATE["tag"].format(name=_safe(name), percent=100 * probability)
                for name, probability in clip.tags[group]
            ]
            groups.append(TEMPLATE["group"].format(GROUP=group.upper(), tags=TEMPLATE["between_tags"].join(tags)))
    return TEMPLATE["between_groups"].join(groups)


def asked(clip: Tagged, max_tags: int, taxonomy: Taxonomy) -> Tagged:
    """Return the clip with the tags that a caption is to tell.

    Those are the likeliest ``max_tags`` of each group, without any that a likelier one excludes: a
    tagger scores each tag by itself and may say both slow and fast, a sentence may not.
    """
    listed = [(probability, group, name) for group in TAG_GROUPS for name, probability in clip.tags[group][:max_tags]]
    kept: list[tuple[str, str]] = []
    for _, group, name in sorted(listed, key=lambda tag: -tag[0]):
        tag = (group, name)
        if not any(tag in pair for pair in taxonomy.contradictions([*kept, tag])):
            kept.append(tag)
    return Tagged(
        clip.clip_id,
        {group: tuple(tag for tag in clip.tags[group][:max_tags] if (group, tag[0]) in kept) for group in TAG_GROUPS},
    )


def usable_exemplars(exemplars: Sequence[Exemplar]) -> list[Exemplar]:
    """Return those that can stand in a prompt, on one line each, sorted by clip.

    A description with markers of its own would end the example early and write the next one: it
    is left out, and so are empty and endless ones and clips without tags.
    """
    kept = []
    for exemplar in sorted(exemplars, key=lambda item: item.clip.clip_id):
        text = _one_line(exemplar.text)
        if text and len(text) <= _MAX_CHARS and not _MARKER.search(text) and not exemplar.clip.is_empty:
            kept.append(Exemplar(exemplar.clip, text))
    return kept


def answer(generated: str) -> str:
    """Return the caption in what a model wrote: its first line, up to any marker."""
    line = generated.strip().split("\n", 1)[0]
    return _one_line(_MARKER.split(line, maxsplit=1)[0])


def _one_line(text: str) -> str:
    return " ".join(text.split())


def _safe(name: str) -> str:
    """Return a tag's name without what would end its line or start another example."""
    return _one_line(_MARKER.sub(" ", name))
