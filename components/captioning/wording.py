"""The surface of a caption: what is wrong with it whatever the music is."""

import re
import unicodedata
from collections.abc import Sequence
from functools import cache, lru_cache
from typing import Final

from components.modalities import TAG_GROUPS

# What a language model may carry over from its prompt, or write instead of a sentence.
_DEBRIS: Final = re.compile(
    r"[\[\]{}<>|\\*`\ufffd]"  # markers, code, mark-up, characters that could not be decoded
    r"|\b(?:input|output)\s*:"
    rf"|\b(?:{'|'.join(TAG_GROUPS)})\s*:"
    r"|\d\s*%"
    r"|\b(\w+)(?:\W+\1\b){3}",  # the same word four times on end
    re.IGNORECASE,
)
_LINK: Final = re.compile(
    r"https?:|\bwww\.|\b[\w-]+\.(?:com|org|net|io|fm|tv|ly|uk|info)\b|\byoutu\.be\b"
    r"|\S@\w+\.\w"  # e-mail
    r"|(?<!\w)@\w{2}"  # handles
    r"|(?<!\w)#[^\W\d]\w",  # hashtags; F# and #1 are none
    re.IGNORECASE,
)
_WORD: Final = re.compile(r"\w+")
_MIXED: Final = re.compile(r"[^\W\d_]+")

# No sentence ends in one of these, whatever stands after it.
_CONNECTING: Final = """a an the and or nor but of into featuring including which whose is are has its"""
# These may end a sentence ("nice to relax with."), so only a text without a full stop is cut off there.
_PREPOSITIONS: Final = """with without for from by as like over"""
# These make no name distinctive, and neither do words of music.
_COMMON: Final = f"""{_CONNECTING} {_PREPOSITIONS}
i you he she it we they me my your our this that there here in on at to up down out off no not yes all one two more
most some so very just only good new old big little long short high low end start time night day be can will hear
music song songs track tune piece sound sounds style feel feels theme mix remix version part live background melody
rhythm tempo groove line lead play plays playing"""


def plain(text: str) -> str:
    """Return the text as it is compared: NFKC, without invisible characters, single spaces, straight quotes.

    NFKC turns full-width, mathematical and ligature forms into plain letters (Unicode Annex 15).
    """
    if not text.isascii():
        text = unicodedata.normalize("NFKC", text).replace("\u2019", "'").replace("\u2018", "'")
        text = "".join(char for char in text if unicodedata.category(char) != "Cf")
    return " ".join(text.split())


@lru_cache(maxsize=4096)  # exemplars come again and again
def words(text: str) -> tuple[str, ...]:
    """Return the words of a plain text in lower case; a hyphen parts two words."""
    return tuple(_WORD.findall(text.lower()))


def has_debris(text: str) -> bool:
    """True where a plain text holds parts of a prompt, mark-up, control characters or letters of mixed scripts."""
    if _DEBRIS.search(text):
        return True
    if text.isascii() and text.isprintable():
        return False
    odd = any(unicodedata.category(char) in ("Cc", "Cs", "Co", "Cn") for char in text)
    return odd or any(0 < foreign_letters(word) < len(word) for word in _MIXED.findall(text))


def has_link(text: str) -> bool:
    """True where a plain text holds an address, an e-mail, a handle or a hashtag."""
    return bool(_LINK.search(text))


def is_cut_off(text: str) -> bool:
    """True where a plain text stops in the middle of a sentence."""
    if not text or text[-1] in ",;:-\u2013\u2014(/&+":
        return True
    last = words(text)[-1:]
    return bool(last) and (last[0] in _set(_CONNECTING) or (last[0] in _set(_PREPOSITIONS) and text[-1].isalnum()))


def foreign_letters(text: str) -> int:
    """Return how many letters are of another script than Latin."""
    if text.isascii():
        return 0
    names = (unicodedata.name(char, "") for char in text if char.isalpha())
    return sum(not name.startswith(("LATIN", "MODIFIER")) for name in names)


def name_in(text: Sequence[str], names: frozenset[str]) -> str:
    """Return the first of ``names`` that stands in a text (its words, in lower case) as a phrase, else "".

    Only distinctive names count: two words or more, of which one is neither common nor about music in
    general; or one word of letters and digits ("blink182").
    """
    starts = _by_first_word(names)
    for at, word in enumerate(text):
        for name in starts.get(word, ()):
            if tuple(text[at : at + len(name)]) == name:
                return " ".join(name)
    return ""


@lru_cache(maxsize=4)
def _by_first_word(names: frozenset[str]) -> dict[str, list[tuple[str, ...]]]:
    starts: dict[str, list[tuple[str, ...]]] = {}
    for name in sorted({words(plain(name)) for name in names}):
        if _is_distinctive(name):
            starts.setdefault(name[0], []).append(name)
    return starts


def _is_distinctive(name: tuple[str, ...]) -> bool:
    if len(name) == 1:
        word = name[0]
        return len(word) >= 5 and word[0].isalpha() and any(char.isdigit() for char in word)
    return any(word not in _set(_COMMON) for word in name)


@cache
def _set(listed: str) -> frozenset[str]:
    return frozenset(listed.split())
