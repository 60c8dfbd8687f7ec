"""Captions as a set: are they various, or has the writer fallen into saying one thing?

Near-duplicates are found by MinHash and locality-sensitive hashing (Broder, 1997; Indyk and Motwani,
1998) over word 3-grams, and each candidate is verified by its exact Jaccard likeness.
"""

import zlib
from collections import Counter
from collections.abc import Sequence
from typing import Any, Final

from components.captioning.params import QualityParams
from components.captioning.wording import plain, words

_GRAM: Final = 3
_PERMUTATIONS: Final = 128
_SEED: Final = 1
# Members of a cluster that later texts are compared with. A collapsed set of n texts would ask for n^2
# comparisons otherwise; a text like none of these is at the cluster's rim at most.
_WITNESSES: Final = 16


def describe_collection(texts: Sequence[str], limits: QualityParams) -> dict[str, Any]:
    """Return figures of a set of captions; the order of the texts does not matter.

    Returns:
        captions, mean_words, vocabulary (different words), distinct_1 and distinct_2 (different n-grams
        per n-gram; Li et al., 2016, section 5; they fall as a set grows), exact_duplicates (texts that
        stood before, case and spacing apart), near_duplicates (share of texts in a cluster of two or
        more, exact ones included), clusters (of two or more), largest_cluster (its share of all texts;
        0 where no two are alike), collapsed (that share is above ``limits.max_cluster``).
    """
    read = Counter(words(plain(text)) for text in texts)
    total = read.total()
    spoken = sum(len(text) * count for text, count in read.items())
    sizes = [size for size in _cluster_sizes(read, limits.near_duplicate) if size > 1]
    largest = max(sizes, default=0) / max(total, 1)
    return {
        "captions": total,
        "mean_words": round(spoken / max(total, 1), 4),
        "vocabulary": len({word for text in read for word in text}),
        "distinct_1": _distinct(read, 1),
        "distinct_2": _distinct(read, 2),
        "exact_duplicates": total - len(read),
        "near_duplicates": round(sum(sizes) / max(total, 1), 6),
        "clusters": len(sizes),
        "largest_cluster": round(largest, 6),
        "collapsed": largest > limits.max_cluster,
    }


def _distinct(read: Counter[tuple[str, ...]], size: int) -> float:
    different: set[tuple[str, ...]] = set()
    total = 0
    for text, count in read.items():
        grams = _grams(text, size)
        different.update(grams)
        total += len(grams) * count
    return round(len(different) / total, 6) if total else 0.0


def _cluster_sizes(read: Counter[tuple[str, ...]], threshold: float) -> list[int]:
    """Return how many texts each cluster holds; texts linked by near-duplicates are one cluster."""
    from datasketch import MinHash, MinHashLSH
    from scipy.cluster.hierarchy import DisjointSet

    ordered = sorted(read)
    clusters = DisjointSet(range(len(ordered)))
    witnesses: Counter[int] = Counter()  # per cluster, by its root, which is clusters[member]
    shingles: dict[int, frozenset[bytes]] = {}  # of the witnesses
    # Candidates are verified, so a false one only costs time.
    index = MinHashLSH(threshold=threshold, num_perm=_PERMUTATIONS, weights=(0.3, 0.7))
    blank = MinHash(num_perm=_PERMUTATIONS, seed=_SEED, hashfunc=zlib.crc32)

    for at, text in enumerate(ordered):
        own = frozenset(" ".join(gram).encode("utf-8", "surrogatepass") for gram in _grams(text, _GRAM) or [text])
        sketch = blank.copy()
        sketch.update_batch(sorted(own))
        for other in sorted(index.query(sketch)):
            if not clusters.connected(at, other) and _jaccard(own, shingles[other]) >= threshold:
                seen = witnesses[clusters[at]] + witnesses[clusters[other]]
                clusters.merge(at, other)
                witnesses[clusters[at]] = seen
        if witnesses[clusters[at]] < _WITNESSES:
            witnesses[clusters[at]] += 1
            shingles[at] = own
            index.insert(at, sketch, check_duplication=False)
    sizes: Counter[int] = Counter()
    for at, text in enumerate(ordered):
        sizes[clusters[at]] += read[text]
    return sorted(sizes.values(), reverse=True)


def _jaccard(one: frozenset[bytes], two: frozenset[bytes]) -> float:
    return len(one & two) / len(one | two)


def _grams(text: tuple[str, ...], size: int) -> list[tuple[str, ...]]:
    return [text[at : at + size] for at in range(len(text) - size + 1)]
