"""Figures of captions as a set."""

import random

from hypothesis import given, settings
from hypothesis import strategies as st

from components.captioning.collection import describe_collection
from components.captioning.params import QualityParams

LIMITS = QualityParams(
    min_recall=0.6,
    max_hallucinated=0,
    leaked_words=8,
    leaked_share=0.8,
    min_words=3,
    max_words=60,
    near_duplicate=0.7,
    max_cluster=0.4,
    least_yield=0.95,
)
WORDS = [f"word{number}" for number in range(200)]


def sentence(rng: random.Random, length: int = 12) -> list[str]:
    return [rng.choice(WORDS) for _ in range(length)]


def test_no_text_and_one_text() -> None:
    nothing = describe_collection([], LIMITS)
    assert nothing["captions"] == nothing["largest_cluster"] == nothing["distinct_2"] == 0 and not nothing["collapsed"]
    one = describe_collection(["A calm folk tune."], LIMITS)
    assert (one["captions"], one["mean_words"], one["vocabulary"], one["distinct_1"]) == (1, 4.0, 4, 1.0)
    assert one["largest_cluster"] == 0 and not one["collapsed"], "one text is alike to none"


def test_distinct_n_by_hand() -> None:
    # 7 words, 5 of them different; 5 pairs, 4 of them different (a b, b c; a b, b d, d e).
    found = describe_collection(["a b c", "A b d  e"], LIMITS)
    assert (found["distinct_1"], found["distinct_2"]) == (round(5 / 7, 6), round(4 / 5, 6))
    assert found["mean_words"] == 3.5 and found["vocabulary"] == 5


def test_near_duplicates_are_those_of_that_likeness() -> None:
    # 10 and 11 words: 8 and 9 runs of three, 8 shared: 8 / 9 = 0.89.
    base = "a b c d e f g h i j"
    found = describe_collection([base, f"{base} k", "p q r s t u v w x y", "p q r s z u v w x y"], LIMITS)
    # The other two share 5 of 8 each: 5 / 11 = 0.45.
    assert (found["clusters"], found["near_duplicates"], found["largest_cluster"]) == (1, 0.5, 0.5)
    assert found["exact_duplicates"] == 0 and found["collapsed"]


def test_exact_duplicates_are_counted_and_cluster() -> None:
    found = describe_collection(["a b c d", "A b, c d!", "x y", "x z", "v w"], LIMITS)
    assert (found["exact_duplicates"], found["largest_cluster"], found["collapsed"]) == (1, 0.4, False)


def test_chains_are_one_cluster() -> None:
    texts = [" ".join(f"w{n}" for n in range(start, start + 30)) for start in range(4)]  # neighbours: 27 of 29
    assert describe_collection(texts, LIMITS)["largest_cluster"] == 1.0


def test_a_text_between_two_clusters_makes_them_one() -> None:
    # Runs of three words: 13 of each, none in common. The text between has 27, 12 of the one's and 12 of the other's:
    # 12 / 28 = 0.43.
    one, two = (" ".join(f"{letter}{n:02d}" for n in range(15)) for letter in "ab")
    limits = LIMITS.model_copy(update={"near_duplicate": 0.4})
    apart = describe_collection([one, f"{one} x", two, f"{two} x"], limits)
    assert (apart["clusters"], apart["largest_cluster"]) == (2, 0.5)
    between = " ".join(f"a{n:02d}" for n in range(1, 15)) + " " + " ".join(f"b{n:02d}" for n in range(14))
    joined = describe_collection([one, f"{one} x", two, f"{two} x", f"c {between}"], limits)
    assert (joined["clusters"], joined["largest_cluster"]) == (1, 1.0)


def test_a_collapsed_set_is_told_from_a_various_one() -> None:
    rng = random.Random(1)
    stuck = sentence(rng, 30)
    collapsed = [" ".join([*stuck, rng.choice(WORDS), rng.choice(WORDS)]) for _ in range(300)]
    various = [" ".join(sentence(rng)) for _ in range(300)]
    found = describe_collection(collapsed + various, LIMITS)
    assert found["collapsed"] and found["largest_cluster"] == 0.5
    assert not describe_collection(various, LIMITS)["collapsed"]


@settings(deadline=None, max_examples=30)
@given(st.lists(st.text(alphabet="ab c", max_size=12), max_size=12), st.randoms(use_true_random=False))
def test_order_does_not_matter(texts: list[str], rng: random.Random) -> None:
    found = describe_collection(texts, LIMITS)
    rng.shuffle(texts)
    assert describe_collection(texts, LIMITS) == found and found["captions"] == len(texts)
    assert 0 <= found["largest_cluster"] <= found["near_duplicates"] <= 1
