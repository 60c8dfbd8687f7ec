"""Is a caption English? Only said to be not where there is enough to tell.

langdetect (a port of Shuyo's language-detection, 2010: character n-grams and naive Bayes) errs on
lists of music words, which belong to no language ("psytrance, theatrical, cello"): a quarter of
sentences like "loving minimal music." are Estonian or Catalan to it. So it is asked last, without the
music words, and believed when it is sure.
"""

import re
from collections.abc import Collection
from functools import cache, lru_cache
from typing import Any, Final

from components.captioning.wording import foreign_letters

_WORD: Final = re.compile(r"[^\W\d_]+(?:'[^\W\d_]+)*")
# Frequent in English captions and in no other language of Latin script.
_ENGLISH: Final = """the and with this that it you your from while its which feels sounds where there without"""
_ENGLISH_SHARE: Final = 1 / 8
_LEAST_WORDS: Final = 5  # music words apart
_SURE: Final = 0.95
_SEED: Final = 1


def is_foreign(text: str, music: Collection[str]) -> bool:
    """True where a plain text is surely not English.

    Args:
        text: the caption.
        music: words of it that name music, in lower case; they are the same in many languages.
    """
    if foreign_letters(text) > 1:
        return True
    found = _WORD.findall(text.lower())
    english = _ENGLISH.split()
    if sum(word in english for word in found) >= _ENGLISH_SHARE * len(found):
        return False
    telling = [word for word in found if word not in music and word.removesuffix("s") not in music]
    return len(telling) >= _LEAST_WORDS and _surely_foreign(" ".join(telling))


@lru_cache(maxsize=65536)  # a caption is judged when it comes and once more with all others
def _surely_foreign(text: str) -> bool:
    from langdetect.lang_detect_exception import LangDetectException

    detector = _factory().create()
    detector.seed = _SEED  # it draws random samples
    detector.append(text)
    try:
        best = detector.get_probabilities()[0]
    except (LangDetectException, IndexError):  # no letters that it knows
        return False
    return bool(best.lang != "en" and best.prob >= _SURE)


@cache
def _factory() -> Any:
    from langdetect import detector_factory

    detector_factory.init_factory()
    return detector_factory._factory
