"""``kind: data2text``: sentences from templates, as a person might say them, that tell the tags alone."""

import random
import re
from collections.abc import Iterator, Sequence
from typing import Final

from components.captioning.captioner import OK, Caption, Tagged, chance, version_of
from components.captioning.prompt import asked
from components.modalities import TAG_GROUPS
from components.taxonomy import Taxonomy

# {G} genres, {M} moods, {I} instruments; {a} is "a" or "an", as the next word wants it. A template is used
# where exactly its groups have tags.
TEMPLATES: Final = (
    "{a} {M} {G} track with {I}.",
    "{a} {M} {G} piece featuring {I}.",
    "{G} music with {I}, {M} in mood.",
    "{a} {G} tune led by {I}; it feels {M}.",
    "{M} {G} music built around {I}.",
    "{I} over {a} {M} {G} groove.",
    "{I} carry this {M} {G} piece.",
    "this is {M} {G} music, with {I} up front.",
    "{a} {G} track where {I} set {a} {M} tone.",
    "{M} {G} music with a lot of {I}.",
    "the mood is {M}; {I} play {a} {G} arrangement.",
    "sounds like {M} {G} music. You can hear {I}.",
    "{a} {M} {G} track.",
    "{G} music, {M} from start to end.",
    "{M} {G} music.",
    "something {M} in {a} {G} style.",
    "{a} {G} track with {I}.",
    "{G} music featuring {I}.",
    "{I} in {a} {G} arrangement.",
    "{a} {M} piece with {I}.",
    "{M} music played on {I}.",
    "{I}, and {a} {M} feel.",
    "{a} {G} track.",
    "{G} music.",
    "{a} piece in {a} {G} style.",
    "{a} {M} piece of music.",
    "{M} music.",
    "music that feels {M}.",
    "music with {I}.",
    "{a} piece played on {I}.",
)
_SLOTS: Final = {"genres": "{G}", "moods": "{M}", "instruments": "{I}"}
_PLURAL: Final = ("{I} carry", "{I} set", "{I} play")


class Data2Text:
    """One sentence per clip from its leading tags; the clip's id and the seed decide the wording."""

    model = ""

    def __init__(self, seed: int, max_tags: int, synonyms: float, taxonomy: Taxonomy) -> None:
        """Keep the settings; they are part of the version, as templates and words are.

        Args:
            seed: decides the wording, together with the clip.
            max_tags: most tags of one group that a sentence may name.
            synonyms: probability that a tag is told by one of its synonyms.
            taxonomy: where those come from.
        """
        self.seed, self._max_tags, self._synonyms, self._taxonomy = seed, max_tags, synonyms, taxonomy
        self.version = version_of("data2text", type(self), seed, max_tags, synonyms, taxonomy.digest)

    def key(self, clip: Tagged, attempts: int) -> str:
        """See ``Captioner.key``."""
        return ""

    def caption(self, clips: Sequence[Tagged]) -> Iterator[Caption]:
        """See ``Captioner.caption``."""
        for clip in clips:
            yield Caption(clip.clip_id, self.sentence(clip), OK)

    def sentence(self, clip: Tagged) -> str:
        """Return the sentence of a clip that has tags."""
        clip = asked(clip, self._max_tags, self._taxonomy)
        draw = chance(self.seed, clip.clip_id)
        present = [group for group in TAG_GROUPS if clip.tags[group]]
        told = {group: self._told(draw, group, clip) for group in present}
        several = len(told.get("instruments", ())) > 1
        text = draw.choice([template for template in TEMPLATES if _fits(template, present, several)])
        for group in present:
            joined = _joined(told[group], "and" if group == "instruments" or draw.random() < 0.7 else "")
            text = text.replace(_SLOTS[group], joined)
        return _sentence(text)

    def _told(self, draw: random.Random, group: str, clip: Tagged) -> list[str]:
        """Return words for the group's leading tags; the likeliest is always among them."""
        tags = clip.tags[group]
        lead = tags[0][1]
        # People name what stands out: a tag is told as often as it is likely, against the first.
        named = [name for name, probability in tags if draw.random() * lead < probability]
        words = []
        for name in named:
            known = self._taxonomy.words(group, name)
            words.append(draw.choice(known) if draw.random() < self._synonyms else name)
        return list(dict.fromkeys(words))


def _fits(template: str, present: Sequence[str], several: bool) -> bool:
    """True where the template's groups are those present, and its verb suits the number of instruments."""
    groups = all((slot in template) == (group in present) for group, slot in _SLOTS.items())
    return groups and (several or not any(verb in template for verb in _PLURAL))


def _joined(words: Sequence[str], link: str) -> str:
    if len(words) == 1:
        return words[0]
    return ", ".join(words[:-1]) + (f" {link} " if link else ", ") + words[-1]


def _sentence(text: str) -> str:
    """Fill in a or an, and begin each sentence with a capital letter."""
    while "{a} " in text:
        before, _, after = text.partition("{a} ")
        article = "an" if after.removeprefix("{a} ")[:1].lower() in set("aeiou") else "a"
        text = f"{before}{article} {after}"
    text = re.sub(r"(?<!-)\bmusic (?=music|track|piece)", "", text)  # of genres that end in "music"
    return ". ".join(part[:1].upper() + part[1:] for part in text.split(". "))
