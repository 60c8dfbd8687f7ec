"""Forms of sentences about music: written ones, and made-up ones that nobody has seen before.

In a frame, {G}, {M} and {I} stand for genres, moods and instruments, `[...]` is left away where its
group has no tags, and `a_` is "a" or "an". A model that has seen only the written frames would learn
them by heart; the made-up ones, new in every document, can only be completed by copying the form
from the exemplars.
"""

import random
import re
from collections.abc import Mapping
from typing import Final

WRITTEN: Final = (
    "[a_ {M} ][{G} ]piece[ with {I}]", "[a_ {M} ][{G} ]track[ featuring {I}]", "[a_ {G} ]song[ led by {I}][, {M} in mood]",
    "[{M} ][{G} ]music[ played on {I}]", "[{I} in ][a_ {M} ][{G} ]setting", "[{I} over ][a_ {M} ][{G} ]beat",
    "this is [a_ {G} ]recording[ with {I}][, and it feels {M}]", "[you can hear {I}, ][the feeling is {M}, ][the style is {G}]",
    "the style is [{G}][; the mood is {M}][; {I} can be heard]", "[{G} ]tune[, {M} all along][, {I} in front]",
    "[a_ {M} ]melody[ on {I}][ in a_ {G} style]", "[{I} carrying ][a_ {M} ][{G} ]theme", "[sounds {M}][, it has {I}][, clearly {G}]",
    "something [{M}][ and {G}][, with {I} on top]", "[{M} ][{G} ]background music[ where {I} lead]",
    "the recording has [{I}][ and a_ {M} character][, typical of {G}]", "[slow build of {I}][ in a_ {M} mood][, {G}]",
    "[{G} ]with a lot of [{I}][. It is {M}]", "[{G}. ][{M}. ][{I}]", "[{M}, ][{G}, ][{I}]",
    "here we have [{G}][ that is {M}][ and full of {I}]", "an excerpt of [{M} ][{G} ]music[. {I} stand out]",
    "[mood: {M}][, genre: {G}][, instruments: {I}]", "[{I} - ][{M} - ][{G}]", "[{G} / ][{M} / ][{I}]",
    "it makes me feel [{M}][, this {G} thing][ on {I}]", "[I hear {I}][ in a_ {M}][ {G} tune]", "[{M} as can be][, {G}][, {I} throughout]",
    "[the {I} give it ][a_ {M} air][, a {G} number]", "[{G}][ {M}][, {I} from beginning to end]",
    "this one is [{M}][, rather {G}][, {I} being the main voice]", "[mostly {I}][, in the manner of {G}][, {M} overall]",
    "a recording of [{I}][; {M}][; {G}]", "[{G} at heart][, {M} in tone][, built on {I}]", "we listen to [{G}][ with a_ {M} touch][ and {I}]",
    "[a_ {M} ]groove[ of {I}][ from the world of {G}]", "[{M} ][{G} ]tune[ led by {I}] from start to finish",
    "[a_ {M} ]number[ led by {I}][, {G} in style]", "[a_ {M} ][{G} ]number[ with {I}] up front",
    "[a_ {G} ]track[ that sounds {M}][ and features {I}]", "[{M} sounding ][{G} ]piece[ featuring {I}]",
    "[a_ {G} ]tune[ that feels {M}][, with {I}]", "[a_ {G} ]song[ that is {M}][, featuring {I}]",
    "this is [a_ {M} ][{G} ]song[. You can hear {I}]", "this is [a_ {G} ]track[. It feels {M}][. There is {I} in it]",
    "it sounds like [{G}][ with {I}][, and the mood is {M}]", "[sounds like {G}][, the mood is {M}][, I can hear {I}]",
    "[the mood is {M}][ and you can hear {I}][ in this {G} piece]", "[{M}, ][{G}][, with {I} all over it]",
    "[{G} ]music[, {M} throughout][, and {I} in the foreground]", "[{I} up front ][in a_ {M} ][{G} ]piece",
    "[{I} over a bed of {G}][, {M} throughout]", "[{I} above ][a_ {M} ][{G} ]background", "[the {I} gives this ][{G} ]song[ a_ {M} feel]",
    "[the {I} makes this ][{G} ]tune[ sound {M}]", "I can hear [{I}][ in this {M}][ {G} recording]",
    "[I hear {I}][, it is {G}][ and feels {M}]", "[{I} all the way][, {M}][ {G}]", "[a_ {M} ]instrumental[ in the style of {G}][ with {I}]",
    "[a_ {G} ]instrumental[ with {I}][, {M} in feel]", "[a_ {M} ][{G} ]arrangement[ for {I}]", "[{G} ]arrangement[ featuring {I}][, quite {M}]",
    "listen to the [{I}][ in this {M}][ {G} song]", "[{M} ]music[ from a_ {G} band][ with {I}]", "[{M} mood][, {G} beat][, {I}]",
)  # fmt: skip

_WORDS: Final = tuple(
    "about above after air again all along also among around at away back backing band beautiful because before behind below beside "
    "between big bit both bright brings by came clear close cold come could day deep down drive early edge end ends enough even ever "
    "every everything extra far feels few fills final find fine first five flows for four from full gets gives goes good great grows "
    "half hand has he heard heart here high hits hold home how if in inside into is it its just keeps kind large last late lead left "
    "less let light like line listen little long loop lot low made main makes many may me mid middle mix more most moves much my near "
    "never new next nice night now number of off old on once one only open or other our out over own part pass people place plain "
    "plays plenty point pure quite rather real recorded rest rich right room round runs same says scene second see sense set she shows "
    "side simple since small so some sort sound sounds spot stays still strong such sweet takes tape tells than that the then there "
    "these they thing this those three through time to tone too top touch toward turns two under until up upon use used very video "
    "voice wait walk wants warm was way we well what when where which while whole wide will with within work world year you your "
    "arrangement background bed clip composition excerpt instrumental jam loop number passage piece recording score section snippet "
    "song theme track tune vibe style mood feel atmosphere opening ending groove rhythm solo harmony texture chorus verse bridge".split()
)
_MARKS: Final = (",", ",", ";", ":", " -", " /", " |", " +", ".", " >", " =", "!", " //", " ~", " *", "?", " <", ")")
_LETTERS: Final = ("bcdfghjklmnprstvwz", "aeiou")
_SLOT: Final = re.compile(r"\[([^\]]*)\]")


def made_up(chance: random.Random) -> str:
    """Return a frame of random words and marks around the three groups, in any order."""
    groups = chance.sample(("{G}", "{M}", "{I}"), 3)
    parts = []
    for at, slot in enumerate(groups):
        before = _words(chance, chance.choice((0, 0, 1, 1, 1, 2, 2, 3)))
        after = _words(chance, chance.choice((0, 0, 0, 0, 1, 1, 2)))
        article = "a_ " if chance.random() < 0.25 else ""
        mark = chance.choice(_MARKS) if at < 2 and chance.random() < 0.45 else ""
        parts.append("[" + " ".join(filter(None, (before, f"{article}{slot}", after))) + mark + " ]")
    opening = _words(chance, chance.choice((0, 0, 1, 2, 3)))
    closing = _words(chance, chance.choice((0, 0, 0, 1, 2)))
    return " ".join(filter(None, (opening, "".join(parts).strip() + closing)))


def _words(chance: random.Random, count: int) -> str:
    """Return words; some are of letters only, as a stranger's words are to the model."""
    return " ".join(_strange(chance) if chance.random() < 0.35 else chance.choice(_WORDS) for _ in range(count))


def _strange(chance: random.Random) -> str:
    letters = "".join(
        chance.choice(_LETTERS[(at + chance.randint(0, 4) // 4) % 2]) for at in range(chance.randint(2, 9))
    )
    return letters.capitalize() if chance.random() < 0.2 else letters


def filled(frame: str, told: Mapping[str, str]) -> str:
    """Return the frame with its groups' words; parts of absent groups are left away.

    Args:
        frame: see above.
        told: words by slot letter, "G", "M" and "I"; an absent letter has no tags.
    """

    def part(match: re.Match[str]) -> str:
        letters = set(re.findall(r"\{([GMI])\}", match[1]))
        return match[1] if letters <= set(told) else ""

    text = _SLOT.sub(part, frame)
    for letter, words in told.items():
        text = text.replace("{" + letter + "}", words)
    text = re.sub(r"\ba_ (?=(\S))", lambda match: "an " if match[1].lower() in "aeiou" else "a ", text)
    text = " ".join(text.split())
    return re.sub(r"^[,;:/|+>=. -]+|[,;:/|+>= -]+$", "", text)
