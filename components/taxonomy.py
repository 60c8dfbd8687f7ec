"""The vocabulary of music tags: groups, names, what people call them, and what excludes what.

One YAML file (`taxonomy.yaml`) serves the taggers, whose labels it maps to names, the captioners,
which take words from it, and quality control, which finds those words in a caption again.
"""

import hashlib
import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field, ValidationError

from components.modalities import TAG_GROUPS
from components.settings import Section, read_params

Tag = tuple[str, str]  # group, name

_TOKEN = re.compile(r"[a-z0-9&]+")
_NEGATIONS = frozenset({"no", "not", "without", "lack", "lacking", "minus"})
_REACH = 2  # words between a negation and what it negates: "no other vocals"


class _Entry(Section):
    """One name in the file."""

    words: tuple[str, ...] = ()
    """What people say instead of the name, each usable in its place in a sentence."""
    labels: tuple[str, ...] = ()
    """Further spellings: those of taggers, or words that would read badly in a sentence."""
    implies: tuple[str, ...] = ()
    """Names of the same group that are true wherever this one is."""
    against: tuple[str, ...] = ()
    """Names, of any group, that cannot be true of the same piece."""


class _File(Section):
    genres: Annotated[dict[str, _Entry | None], Field(min_length=1)]
    moods: Annotated[dict[str, _Entry | None], Field(min_length=1)]
    instruments: Annotated[dict[str, _Entry | None], Field(min_length=1)]


@dataclass(frozen=True)
class Mention:
    """Words of a text that name a tag, or one of several."""

    tags: frozenset[Tag]
    words: str
    negated: bool  # "no drums"


@dataclass(frozen=True)
class Taxonomy:
    """Names by group, and everything the file says about each."""

    entries: Mapping[Tag, _Entry]

    @cached_property
    def digest(self) -> str:
        """Return the sha256 of the content."""
        listed = [[*tag, entry.model_dump()] for tag, entry in sorted(self.entries.items())]
        return hashlib.sha256(json.dumps(listed, sort_keys=True).encode()).hexdigest()

    def words(self, group: str, name: str) -> tuple[str, ...]:
        """Return what people call a tag, its name first; the name alone where it is unknown."""
        entry = self.entries.get((group, name.lower()))
        return (name, *(word for word in entry.words if word != name)) if entry else (name,)

    def find(self, label: str) -> tuple[Tag, ...]:
        """Return the tags that a tagger's label stands for: by name, else by label, else by synonym."""
        key = _tokens(label)
        none: frozenset[Tag] = frozenset()
        return tuple(sorted(self._named.get(key) or self._labelled.get(key) or self._spoken.get(key, none)))

    def implied(self, tag: Tag) -> frozenset[Tag]:
        """Return the tag and all that is true with it."""
        found, todo = {tag}, [tag]
        while todo:
            group, name = todo.pop()
            entry = self.entries.get((group, name.lower()))
            new = {(group, other) for other in (entry.implies if entry else ())} - found
            found |= new
            todo += sorted(new)
        return frozenset(found)

    def contradictions(self, tags: Iterable[Tag]) -> list[tuple[Tag, Tag]]:
        """Return the pairs among ``tags`` that exclude each other, sorted."""
        listed = sorted({*tags})
        return [(one, two) for at, one in enumerate(listed) for two in listed[at + 1 :] if self._exclude(one, two)]

    def mentions(self, text: str) -> list[Mention]:
        """Return what a text names, the longest phrases first where they overlap, in the text's order."""
        tokens = _tokens(text)
        found: list[Mention] = []
        at = end = 0
        while at < len(tokens):
            length = next(
                (n for n in range(min(self._longest, len(tokens) - at), 0, -1) if tokens[at : at + n] in self._spoken),
                0,
            )
            if length:
                between, phrase = tokens[max(end, at - 1 - _REACH) : at], tokens[at : at + length]
                carried = bool(found) and found[-1].negated and between in (("or",), ("nor",))
                negated = carried or bool(_NEGATIONS & set(between))
                found.append(Mention(self._spoken[phrase], " ".join(phrase), negated))
                end = at + length
            at += max(1, length)
        return found

    def _exclude(self, one: Tag, two: Tag) -> bool:
        true = self.implied(two)
        return any(self._exclusions.get(tag, frozenset()) & true for tag in self.implied(one))

    @cached_property
    def _exclusions(self) -> dict[Tag, frozenset[Tag]]:
        pairs: dict[Tag, set[Tag]] = {}
        for tag, entry in self.entries.items():
            for name in entry.against:
                for other in (other for other in self.entries if other[1] == name):
                    pairs.setdefault(tag, set()).add(other)
                    pairs.setdefault(other, set()).add(tag)
        return {tag: frozenset(others) for tag, others in pairs.items()}

    @cached_property
    def _named(self) -> dict[tuple[str, ...], frozenset[Tag]]:
        return _index((tag, (tag[1],)) for tag in self.entries)

    @cached_property
    def _labelled(self) -> dict[tuple[str, ...], frozenset[Tag]]:
        return _index((tag, entry.labels) for tag, entry in self.entries.items())

    @cached_property
    def _spoken(self) -> dict[tuple[str, ...], frozenset[Tag]]:
        """Everything that names a tag in a sentence."""
        index = _index((tag, (tag[1], *entry.words, *entry.labels)) for tag, entry in self.entries.items())
        # "swing music" may be a name of its own; it is still whatever "swing" is.
        return {
            key: tags | index.get(key[:-1], frozenset()) if key[-1] == "music" else tags for key, tags in index.items()
        }

    @cached_property
    def _longest(self) -> int:
        return max(len(key) for key in self._spoken)


def read_taxonomy(path: Path) -> Taxonomy:
    """Read and check a taxonomy file.

    Raises:
        ValueError: it is not of the form, or refers to a name that it does not have; the message
            names file, group and name.
    """
    try:
        content = _File.model_validate(read_params(path))
    except ValidationError as error:
        detail = error.errors()[0]
        where = ".".join(str(part) for part in detail["loc"])
        raise ValueError(f"{path}: {where}: {detail['msg']}") from None
    entries: dict[Tag, _Entry] = {}
    for group in TAG_GROUPS:
        for name, entry in _group(content, group).items():
            if name != " ".join(name.lower().split()) or not _tokens(name):
                raise ValueError(f"{path}: {group}.{name}: names are in lower case, without spaces around")
            entries[group, name] = entry or _Entry()
    known = {name for _, name in entries}
    for (group, name), entry in entries.items():
        for other in (*entry.against, *entry.implies):
            if other not in known or (other in entry.implies and (group, other) not in entries):
                raise ValueError(f"{path}: {group}.{name}: refers to '{other}', which is not a name there")
        if any(not _tokens(word) for word in (*entry.words, *entry.labels)):
            raise ValueError(f"{path}: {group}.{name}: an empty word or label")
    return Taxonomy(entries)


def _index(named: Iterable[tuple[Tag, Iterable[str]]]) -> dict[tuple[str, ...], frozenset[Tag]]:
    index: dict[tuple[str, ...], set[Tag]] = {}
    for tag, words in named:
        for word in words:
            index.setdefault(_tokens(word), set()).add(tag)
    return {key: frozenset(tags) for key, tags in index.items()}


def _group(content: _File, group: str) -> dict[str, _Entry | None]:
    found: Any = getattr(content, group)
    return dict(found)


def _tokens(text: str) -> tuple[str, ...]:
    """Return the text's words as they are compared: lower case, hyphens open, plurals as singulars."""
    return tuple(_singular(token) for token in _TOKEN.findall(text.lower().replace("'s", "").replace("_", " ")))


def _singular(word: str) -> str:
    if len(word) > 3 and word.endswith("s") and not word.endswith(("ss", "us", "is")) and word != "blues":
        return word[:-1]
    return word
