"""Analogy captions: judged, tried again, given up well, and never asked for twice."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from components import tables
from components.captioning.analogy import Analogy
from components.captioning.captioner import Exemplar, Sources, Tagged
from components.captioning.completion import ERROR, LENGTH, STOP, Completion, Request
from components.captioning.inputs import journal_of
from components.captioning.params import EndpointParams
from components.captioning.progress import Captioned, caption_clips
from components.captioning.publish import publish
from components.code import covered
from components.taxonomy import Taxonomy, read_taxonomy
from tests.traced import ran

QUALITY = {
    "min_recall": 0.6, "max_hallucinated": 0, "leaked_words": 8, "leaked_share": 0.8, "min_words": 2, "max_words": 60,
    "near_duplicate": 0.8, "max_cluster": 0.2, "least_yield": 0.9,
}  # fmt: skip
SECTION: dict[str, Any] = {
    "kind": "endpoint", "url": "http://127.0.0.1:1/v1", "model": "m", "revision": "1", "key_variable": "KEY",
    "concurrency": 2, "timeout_s": 1.0, "retries": 0, "longest_wait_s": 1.0, "seed": 1,
    "prompt": {"exemplars": 2, "selection": {"kind": "random", "sets": 4}, "max_tags": 3, "token_budget": 1000},
    "decoding": {"temperature": 0.0, "retry_temperature": 0.7, "top_p": 0.95, "max_new_tokens": 20},
    "attempts": 3, "otherwise": "data2text", "quality": QUALITY,
}  # fmt: skip


def clip(clip_id: str, genre: str = "folk", mood: str = "sad", instrument: str = "piano", sure: float = 0.7) -> Tagged:
    return Tagged(clip_id, {"genres": ((genre, 0.9),), "moods": ((mood, 0.8),), "instruments": ((instrument, sure),)})


EXEMPLARS = [Exemplar(clip(f"e{n}", "rock", "happy", "flute"), f"A cheerful rock song number {n}.") for n in range(9)]
GOOD = " A sad folk tune on piano.\n"


@dataclass
class Scripted:
    """A language model whose answers are a function of the request; it remembers what it was asked."""

    answer: Callable[[Request], str | Completion] = lambda request: GOOD
    identity: str = "scripted@1"
    asked: list[Request] = field(default_factory=list)
    stop_after: int | None = None

    def complete(self, requests: Sequence[Request]) -> Iterator[Completion]:
        for request in reversed(requests):  # any order is allowed
            if self.stop_after is not None and len(self.asked) >= self.stop_after:
                raise KeyboardInterrupt
            self.asked.append(request)
            made = self.answer(request)
            yield made if isinstance(made, Completion) else Completion(request, made, STOP)

    def tokens(self, text: str) -> list[int] | None:
        return list(range(len(text.split())))

    def shared_tokens(self, requests: Sequence[Request]) -> tuple[int, int, int] | None:
        return None


@pytest.fixture(scope="module")
def taxonomy() -> Taxonomy:
    return read_taxonomy(Path(__file__).parents[2] / "components" / "taxonomy.yaml")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path


class Stage:
    """The captioning stage's files in a folder, with a scripted model."""

    def __init__(self, folder: Path, taxonomy: Taxonomy) -> None:
        self.captions, self.completions = folder / "captions.parquet", folder / "completions.parquet"
        self.quarantine, self._taxonomy = folder / "quarantine.parquet", taxonomy

    def run(
        self, clips: Sequence[Tagged], model: Scripted, exemplars: Sequence[Exemplar] = EXEMPLARS, **update: Any
    ) -> Captioned:
        paid = tables.read_rows(self.completions, tables.COMPLETIONS) if self.completions.exists() else []
        sources = Sources(self._taxonomy, exemplars, {"Velvet Garden"}, journal_of(self.captions), paid)
        captioner = Analogy(EndpointParams.model_validate(SECTION | update), sources, model)
        made = caption_clips(clips, "endpoint", captioner, self.captions, self.completions)
        publish(made, self.captions, self.completions, self.quarantine)
        return made

    def bytes(self) -> list[bytes]:
        return [path.read_bytes() for path in (self.captions, self.completions, self.quarantine)]


@pytest.fixture
def stage(folder: Path, taxonomy: Taxonomy) -> Stage:
    return Stage(folder, taxonomy)


def test_a_row_tells_where_its_caption_comes_from(stage: Stage) -> None:
    (row,) = stage.run([clip("c")], Scripted()).rows
    assert (row["text"], row["verdict"], row["attempts"], row["model"]) == (
        "A sad folk tune on piano.", "ok", 1, "scripted@1",
    )  # fmt: skip
    assert len(row["exemplar_ids"]) == 2 and set(row["exemplar_ids"]) <= {item.clip.clip_id for item in EXEMPLARS}
    assert row["decoding"] == '{"max_new_tokens": 20, "temperature": 0.0}' and row["prompt_digest"]
    (answer,) = tables.read_rows(stage.completions, tables.COMPLETIONS)
    assert answer["text"] == GOOD and answer["suffix"].endswith("INSTRUMENTS: piano (70.0%)\n[Output]:")
    assert answer["prefix"].count("[Output]: A cheerful rock song") == 2 and answer["reasons"] == []


def test_a_bad_answer_is_tried_again_with_another_seed(stage: Stage) -> None:
    model = Scripted(lambda request: GOOD if request.attempt == 2 else " Loud metal with banjo.\n")
    (row,) = stage.run([clip("c")], model).rows
    assert (row["verdict"], row["attempts"], row["text"]) == ("ok", 3, "A sad folk tune on piano.")
    assert [request.temperature for request in model.asked] == [0.0, 0.7, 0.7]
    assert len({request.seed for request in model.asked}) == 3
    reasons = [answer["reasons"] for answer in tables.read_rows(stage.completions, tables.COMPLETIONS)]
    assert "hallucinated" in reasons[0] and "low_recall" in reasons[1] and reasons[2] == []


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        ("\n", "empty"),
        (" A sad folk tune on piano by Velvet Garden.\n", "name"),
        (" A sad folk tune on piano www.example.com\n", "url"),
        (" GENRES: folk (90.0%); MOODS: sad; INSTRUMENTS: piano\n", "debris"),
    ],
)
def test_a_clip_without_a_good_answer_gets_a_template_or_the_quarantine(stage: Stage, answer: str, reason: str) -> None:
    (row,) = stage.run([clip("c")], Scripted(lambda request: answer)).rows
    assert (row["verdict"], row["attempts"], row["exemplar_ids"]) == ("fallback", 3, [])
    assert "folk" in row["text"].lower() and "piano" in row["text"].lower()
    made = stage.run([clip("c"), clip("d")], Scripted(lambda request: answer if request.clip_id == "c" else GOOD),
                     otherwise="quarantine")  # fmt: skip
    assert [row["clip_id"] for row in made.rows] == ["d"]
    (refused,) = tables.read_rows(stage.quarantine, tables.QUARANTINE)
    assert refused["uri"] == "c" and refused["stage"] == "captioning" and refused["reason"] == reason


def test_an_answer_that_never_ends_and_a_failed_one_are_rows_not_failures(stage: Stage) -> None:
    def answer(request: Request) -> str | Completion:
        if request.clip_id == "endless":
            return Completion(request, " A sad folk tune on piano and and and", LENGTH)
        return Completion(request, "", ERROR, "not_finite") if request.clip_id == "failed" else GOOD

    rows = stage.run([clip("endless"), clip("failed"), clip("fine")], Scripted(answer)).rows
    assert {row["clip_id"]: row["verdict"] for row in rows} == {
        "endless": "fallback", "failed": "fallback", "fine": "ok",
    }  # fmt: skip
    again = Scripted()
    rows = stage.run([clip("endless"), clip("failed"), clip("fine")], again).rows
    assert {request.clip_id for request in again.asked} == {"failed"}, "what failed is tried again, the rest is kept"
    assert {row["clip_id"]: row["verdict"] for row in rows}["failed"] == "ok"


CLIPS = [clip(f"c{n:03d}", ("folk", "jazz")[n % 2], ("sad", "calm")[n % 3 % 2], sure=0.5 + n / 1000) for n in range(40)]


def words(request: Request) -> str:
    """A good answer to some, and a bad first answer to others."""
    genre = "folk" if "GENRES: folk" in request.suffix else "jazz"
    mood = "sad" if "MOODS: sad" in request.suffix else "calm"
    return (
        f" {mood} {genre} on banjo.\n"
        if request.attempt == 0 and "7" in request.clip_id
        else f" {mood} {genre} on piano.\n"
    )


def test_a_stopped_run_asks_nothing_twice_and_ends_with_the_same_bytes(
    stage: Stage, taxonomy: Taxonomy, tmp_path: Path
) -> None:
    stopped, after = Scripted(words, stop_after=23), Scripted(words)
    with pytest.raises(KeyboardInterrupt):
        stage.run(CLIPS, stopped)
    assert not stage.captions.exists() and journal_of(stage.captions).exists()
    stage.run(CLIPS, after)
    asked = [request.digest for request in (*stopped.asked, *after.asked)]
    assert len(asked) == len(set(asked)) == 44
    (tmp_path / "scratch").mkdir()
    scratch = Stage(tmp_path / "scratch", taxonomy)
    scratch.run(CLIPS[::-1], Scripted(words))
    assert stage.bytes() == scratch.bytes() and not journal_of(stage.captions).parent.exists()


def test_clips_with_the_same_prompt_are_asked_once(stage: Stage) -> None:
    model = Scripted()
    one_set = SECTION["prompt"] | {"selection": {"kind": "random", "sets": 1}}
    rows = stage.run([clip("a"), clip("b")], model, prompt=one_set).rows
    assert len(model.asked) == 1 and [row["text"] for row in rows] == ["A sad folk tune on piano."] * 2


def test_more_clips_ask_for_those_only(stage: Stage, taxonomy: Taxonomy, tmp_path: Path) -> None:
    stage.run(CLIPS[3:], Scripted(words))
    model = Scripted(words)
    made = stage.run(CLIPS, model)
    assert (made.computed, made.kept, made.dropped) == (3, 37, 0) and len(model.asked) == 3
    (tmp_path / "scratch").mkdir()
    scratch = Stage(tmp_path / "scratch", taxonomy)
    scratch.run(CLIPS, Scripted(words))
    assert stage.bytes() == scratch.bytes()


def test_other_limits_judge_anew_without_asking(stage: Stage) -> None:
    stage.run(CLIPS, Scripted(words))
    model = Scripted(words)
    made = stage.run(CLIPS, model, quality=QUALITY | {"min_recall": 0.5})
    assert made.computed == 40 and model.asked == []


def test_other_weights_other_tags_and_other_seeds_ask_anew(stage: Stage) -> None:
    stage.run(CLIPS, Scripted(words))
    assert stage.run(CLIPS, Scripted(words, identity="scripted@2")).computed == 40
    one = Scripted(words, identity="scripted@2")
    stage.run([clip("c000", "jazz", "happy"), *CLIPS[1:]], one)
    assert {request.clip_id for request in one.asked} == {"c000"}
    practical = Scripted(words, identity="scripted@2")
    stage.run([clip("c000", "jazz", "happy"), *CLIPS[1:]], practical, url="http://elsewhere/v1", concurrency=9)
    assert practical.asked == []


def test_one_more_described_clip_leaves_most_captions_alone(stage: Stage) -> None:
    pool = [Exemplar(clip(f"p{n:03d}", "rock", "happy", "flute"), f"Cheerful rock number {n}.") for n in range(100)]
    stage.run(CLIPS, Scripted(words), pool[:-1])
    model = Scripted(words)
    stage.run(CLIPS, model, pool)
    assert len(model.asked) < 20


def test_the_token_budget_leaves_exemplars_out(stage: Stage) -> None:
    model = Scripted()
    (row,) = stage.run([clip("c")], model, prompt=SECTION["prompt"] | {"token_budget": 64}).rows
    assert 0 < model.asked[0].prompt.count("[Output]:") < 3 and row["verdict"] == "ok"
    assert len(model.tokens(model.asked[0].prompt) or ()) + 20 <= 64


def test_too_few_exemplars_are_said(stage: Stage) -> None:
    with pytest.raises(
        ValueError, match=r"2 of 2 described train clips can be exemplars, .*captioning\.prompt\.exemplars"
    ):
        stage.run([clip("c")], Scripted(), EXEMPLARS[:2])


def test_all_that_makes_a_caption_is_covered(taxonomy: Taxonomy, tmp_path: Path) -> None:
    sources = Sources(taxonomy, EXEMPLARS, {"Velvet Garden"}, tmp_path / "journal", [])
    section, clips = EndpointParams.model_validate(SECTION), [clip("c"), clip("d", "rock")]
    listed = covered(Analogy)

    def caption() -> None:
        made = list(Analogy(section, sources, Scripted()).caption(clips))
        assert {one.verdict for one in made} == {"ok", "fallback"}

    used = ran(caption, listed)
    assert {"components.captioning.quality:judge", "components.captioning.data2text:Data2Text"} <= used
    assert used <= set(listed)
