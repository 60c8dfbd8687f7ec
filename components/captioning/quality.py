"""Is a caption good enough to train on? One caption, one judgement.

A language model is taught a style by example, and examples invite it to tell what is not there (ViML,
CVPR 2023, section 3.1: "autotuned female vocals"). So a caption is read back against its clip's tags.
"""

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from components.captioning.captioner import OK, Exemplar, Tagged
from components.captioning.completion import LENGTH
from components.captioning.language import is_foreign
from components.captioning.leakage import leaked
from components.captioning.params import QualityParams
from components.captioning.wording import has_debris, has_link, is_cut_off, name_in, plain, words
from components.modalities import TAG_GROUPS
from components.taxonomy import Tag, Taxonomy

# In the order that they are told, the plainest first.
REASONS: Final = (
    "empty",
    "debris",
    "url",
    "truncated",
    "language",
    "name",
    "contradiction",
    "leak",
    "hallucinated",
    "low_recall",
    "too_short",
    "too_long",
)

# Tags that are ordinary nouns in a sentence: "over a folk groove", "with a steady beat", "a warm vibe".
_ORDINARY: Final = frozenset({"groove", "beat", "vibe"})
_VOICE: Final[Tag] = ("instruments", "voice")
_NO_VOCALS: Final[Tag] = ("instruments", "no vocals")


@dataclass(frozen=True)
class Judgement:
    """What a caption says of its clip, and what is wrong with it."""

    reasons: tuple[str, ...]
    """Codes out of ``REASONS``; none where the caption passes."""
    recall: float = 0.0
    """Share of the clip's tags that the caption names."""
    words: int = 0
    """Length, in words."""
    named: tuple[Tag, ...] = ()
    """The clip's tags that it names, itself or by a synonym."""
    missed: tuple[Tag, ...] = ()
    """The clip's other tags."""
    hallucinated: tuple[str, ...] = ()
    """Musical terms that none of the clip's tags covers."""
    contradictions: tuple[tuple[str, str], ...] = ()
    """What the caption says, and what it cannot be true with: its own words or a tag."""
    leak: str = ""
    """Words taken from an exemplar."""

    @property
    def verdict(self) -> str:
        """Return ok, or the first reason."""
        return self.reasons[0] if self.reasons else OK


@dataclass(frozen=True)
class _Claim:
    """A statement about the music: one of these tags is true, or none of them is."""

    tags: frozenset[Tag]
    said: str
    denied: bool


def judge(
    text: str,
    finish: str,
    clip: Tagged,
    exemplars: Sequence[Exemplar],
    taxonomy: Taxonomy,
    limits: QualityParams,
    names: Collection[str] = (),
) -> Judgement:
    """Judge a caption; any text is judged, none raises.

    Args:
        text: the caption.
        finish: how the model ended: "stop", or "length" where the token limit came first.
        clip: the tags that the caption was to tell: those of its prompt.
        exemplars: those of its prompt; none where there was no prompt.
        taxonomy: finds tags in the text.
        limits: what is good enough.
        names: artists and titles, which no caption may tell; a frozenset is indexed once.
    """
    text = plain(text)
    spoken = words(text)
    if not spoken:
        return Judgement(("empty",), missed=_listed(clip))
    claims = _claims(text, taxonomy)
    meanings = {tag: _meanings(tag, taxonomy) for tag in _listed(clip)}
    told = {other for claim in claims if not claim.denied for tag in claim.tags for other in taxonomy.implied(tag)}
    named = tuple(tag for tag, known in meanings.items() if (told & known if known else _stands_in(tag[1], spoken)))
    missed = tuple(tag for tag in meanings if tag not in named)
    true = _true(meanings, taxonomy)
    hallucinated = tuple(dict.fromkeys(claim.said for claim in claims if not _covered(claim, true, taxonomy)))
    contradictions = _contradictions(claims, meanings, true, taxonomy)
    leak = leaked(spoken, [each.text for each in exemplars], limits.leaked_words, limits.leaked_share)
    recall = len(named) / len(meanings) if meanings else 1.0
    length = len(text.split())
    music = {word for claim in claims for word in claim.said.split()}
    wrong = {
        "debris": has_debris(text),
        "url": has_link(text),
        "truncated": finish == LENGTH or is_cut_off(text),
        "language": is_foreign(text, music),
        "name": bool(names) and _names_someone(spoken, names, taxonomy),
        "contradiction": bool(contradictions),
        "leak": bool(leak),
        "hallucinated": len(hallucinated) > limits.max_hallucinated,
        "low_recall": recall < limits.min_recall,
        "too_short": length < limits.min_words,
        "too_long": length > limits.max_words,
    }
    reasons = tuple(reason for reason in REASONS if wrong.get(reason))
    return Judgement(reasons, recall, length, named, missed, hallucinated, contradictions, leak)


def _listed(clip: Tagged) -> tuple[Tag, ...]:
    tags = ((group, " ".join(name.lower().split())) for group in TAG_GROUPS for name, _ in clip.tags[group])
    return tuple(dict.fromkeys(tag for tag in tags if words(plain(tag[1]))))


def _meanings(tag: Tag, taxonomy: Taxonomy) -> frozenset[Tag]:
    """Return what a clip's tag is in the taxonomy; empty where it is not there, by name or as a label."""
    if tag in taxonomy.entries:
        return frozenset((tag,))
    return frozenset(other for other in taxonomy.find(tag[1]) if other[0] == tag[0])


def _true(meanings: dict[Tag, frozenset[Tag]], taxonomy: Taxonomy) -> frozenset[Tag]:
    """Return all that is true of a clip; of a tag outside the taxonomy ("jazz manouche"), what its words name."""
    true: set[Tag] = set()
    for (_, name), known in meanings.items():
        for tag in known or {tag for mention in taxonomy.mentions(name) for tag in mention.tags}:
            true |= taxonomy.implied(tag)
    return frozenset(true)


def _claims(text: str, taxonomy: Taxonomy) -> list[_Claim]:
    claims = []
    for mention in taxonomy.mentions(text):
        if mention.negated and _VOICE in mention.tags:  # "without singing" is a tag of its own
            claims.append(_Claim(frozenset((_NO_VOCALS,)), f"no {mention.words}", denied=False))
        else:
            said = f"no {mention.words}" if mention.negated else mention.words
            claims.append(_Claim(mention.tags, said, mention.negated))
    return claims


def _covered(claim: _Claim, true: frozenset[Tag], taxonomy: Taxonomy) -> bool:
    """True where a claim may stand: one of its tags is true, or made of true ones ("pop rock" of pop and rock)."""
    if claim.denied or claim.tags & true or claim.said in _ORDINARY:
        return True
    parts = (taxonomy.implied(tag) - {tag} for tag in claim.tags)
    return any(len(part) > 1 and part <= true for part in parts)


def _contradictions(
    claims: Sequence[_Claim], meanings: dict[Tag, frozenset[Tag]], true: frozenset[Tag], taxonomy: Taxonomy
) -> tuple[tuple[str, str], ...]:
    """Return hard contradictions only: those that hold whichever of its tags a claim means."""
    stated = [claim for claim in claims if not claim.denied]
    denied = [claim for claim in claims if claim.denied]
    pairs = [
        (claim.said, tag[1])
        for claim in denied
        for tag in meanings
        if claim.tags & _true({tag: meanings[tag]}, taxonomy)
    ]
    pairs += [(one.said, two.said) for one in denied for two in stated if two.tags <= one.tags]
    everything = {other for claim in stated for tag in claim.tags for other in taxonomy.implied(tag)} | true
    if taxonomy.contradictions(everything):
        for at, claim in enumerate(stated):
            others = [(other.said, other.tags) for other in stated[at + 1 :]]
            if not claim.tags & true:  # what a tag says may be told, even where the tagger contradicts itself
                others += [(tag[1], known) for tag, known in meanings.items()]
            pairs += [(claim.said, said) for said, tags in others if _exclude(claim.tags, tags, taxonomy)]
    return tuple(dict.fromkeys(pairs))


def _exclude(one: frozenset[Tag], two: Iterable[Tag], taxonomy: Taxonomy) -> bool:
    pairs = [(a, b) for a in one for b in two]
    return bool(pairs) and all(taxonomy.contradictions(taxonomy.implied(a) | taxonomy.implied(b)) for a, b in pairs)


def _stands_in(name: str, spoken: tuple[str, ...]) -> bool:
    return f" {' '.join(words(plain(name)))} " in f" {' '.join(spoken)} "


def _names_someone(spoken: tuple[str, ...], names: Collection[str], taxonomy: Taxonomy) -> bool:
    found = name_in(spoken, frozenset(names))
    # "Jazz Piano" is a title, and a fair thing to say.
    return bool(found) and sum(len(mention.words.split()) for mention in taxonomy.mentions(found)) < len(found.split())
