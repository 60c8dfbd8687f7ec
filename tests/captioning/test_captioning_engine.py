"""The engine: texts of plain `generate`, whatever the batch; and what it does when something goes wrong."""

import random
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from components.captioning.batch import Steps
from components.captioning.completion import ERROR, LENGTH, STOP, Completion, Request
from components.captioning.decoding import Answer, Pieces, draw, uniform
from components.captioning.engine import Engine
from components.captioning.sharing import shared_tokens, tokenised

KINDS = ["bloom", "gpt_neox", "gpt2", "llama"]


def request(name: str, prefix: str, suffix: str, **update: Any) -> Request:
    plain = Request(name, 0, prefix, suffix, temperature=0.0, top_p=1.0, seed=0, max_new_tokens=12)
    return replace(plain, **update)


def requests() -> list[Request]:
    """Three exemplar sets, one of each five clips with a set of its own; every third clip is sampled."""
    made = []
    for at in range(22):
        lines = [f"[Input]: GENRES: rock ({10 + j}.{at % 3}%)\n[Output]: A {'sad ' * j}song.\n" for j in range(3)]
        prefix = "".join(lines) if at % 5 else f"[Input]: odd {at}\n"
        suffix = f"[Input]: MOODS: {'sad, ' * (at % 4)}x{at}\n[Output]:"
        sampled = {"temperature": 0.8, "top_p": 0.9, "seed": at} if at % 3 == 0 else {}
        made.append(request(f"c{at}", prefix, suffix, max_new_tokens=10 + at % 4, **sampled))
    return made


def by_clip(completions: Sequence[Completion]) -> dict[str, tuple[str, str]]:
    return {one.request.clip_id: (one.text, one.finish) for one in completions}


@pytest.fixture(scope="module", params=KINDS)
def model(request: pytest.FixtureRequest, tiny_model: Callable[..., Any]) -> Any:
    return tiny_model(request.param)


@pytest.fixture(scope="module")
def bloom(tiny_model: Callable[..., Any]) -> Any:
    return tiny_model("bloom")


@pytest.fixture
def run(tiny_tokenizer: Any) -> Callable[..., dict[str, tuple[str, str]]]:
    def complete(model: Any, asked: Sequence[Request], batch_size: int = 32) -> dict[str, tuple[str, str]]:
        return by_clip(list(Engine(model, tiny_tokenizer, batch_size).complete(asked)))

    return complete


def cut(text: str) -> str:
    """Return what an answer keeps of a text: told on the whole text, unlike the engine."""
    lead = text[: len(text) - len(text.lstrip())]
    return lead + text.lstrip().split("\n")[0].split("[Input]")[0]


def test_greedy_texts_are_those_of_generate_one_by_one(model: Any, tiny_tokenizer: Any, run: Any) -> None:
    asked = [one for one in requests() if not one.temperature]
    texts = run(model, asked, 7)
    for one in asked:
        ids = tiny_tokenizer(one.prompt, return_tensors="pt")["input_ids"]
        with torch.inference_mode():
            output = model.generate(
                input_ids=ids,
                attention_mask=torch.ones_like(ids),
                max_new_tokens=one.max_new_tokens,
                do_sample=False,
                pad_token_id=0,
            )
        assert texts[one.clip_id][0] == cut(tiny_tokenizer.decode(output[0, ids.shape[1] :], skip_special_tokens=True))
    assert len({text for text, _ in texts.values()}) > 5


@pytest.mark.parametrize("kind", ["bloom", "gpt_neox"])
def test_batch_order_and_sharing_change_no_text(kind: str, tiny_model: Callable[..., Any], run: Any) -> None:
    model, asked = tiny_model(kind), requests()
    expected: dict[str, tuple[str, str]] = {}
    for one in asked:
        expected |= run(model, [one], 1)  # no padding, nothing shared
    rng = random.Random(3)
    for batch_size in (5, 32):
        some = rng.sample(asked, len(asked))
        assert run(model, some, batch_size) == {one.clip_id: expected[one.clip_id] for one in some}


def test_a_look_every_few_steps_changes_no_text(bloom: Any, tiny_tokenizer: Any, run: Any) -> None:
    rarely = Engine(bloom, tiny_tokenizer, 6)
    rarely._check_every = 5  # as on a GPU
    assert by_clip(list(rarely.complete(requests()))) == run(bloom, requests(), 6)


def test_copied_and_single_prefixes_give_the_same_texts(
    bloom: Any, tiny_model: Callable[..., Any], run: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    once = run(bloom, requests())
    monkeypatch.setattr("components.captioning.batch.can_split", lambda model: False)
    assert run(tiny_model("bloom"), requests()) == once


def test_seeds_decide_sampled_texts(bloom: Any, run: Any) -> None:
    def sampled(seed: int, **update: Any) -> Request:
        settings = {"temperature": 1.5, "top_p": 1.0, "seed": seed} | update
        return request(f"{seed} {update}", "[Input]: rock\n", "[Output]:", **settings)

    texts = run(bloom, [sampled(seed) for seed in range(12)])
    assert len({text for text, _ in texts.values()}) >= 11
    narrow = run(bloom, [sampled(1, top_p=1e-6), sampled(2, temperature=0.0)])
    assert len(set(narrow.values())) == 1  # a nucleus of one token is the greedy choice


@pytest.mark.parametrize(
    ("temperature", "top_p", "number", "token"),
    [
        # 0.2, 0.5, 0.3: in order of probability tokens 1 (up to 0.5), 2 (up to 0.8), 0 (up to 1).
        (1.0, 1.0, 0.49, 1),
        (1.0, 1.0, 0.51, 2),
        (1.0, 1.0, 0.81, 0),
        # The nucleus of 0.7 is tokens 1 and 2: the border is at 0.5 / 0.8 = 0.625.
        (1.0, 0.7, 0.62, 1),
        (1.0, 0.7, 0.63, 2),
        (1.0, 0.7, 0.999999, 2),
        (1.0, 0.4, 0.999999, 1),
        # Temperature 0.5 squares: 0.25, 0.09, 0.04 of 0.38; the first border is at 0.658.
        (0.5, 1.0, 0.65, 1),
        (0.5, 1.0, 0.67, 2),
    ],
)
def test_a_number_picks_a_token_of_the_nucleus(temperature: float, top_p: float, number: float, token: int) -> None:
    def column(value: float) -> torch.Tensor:
        return torch.tensor([[value]], dtype=torch.float64)

    logits = torch.tensor([[0.2, 0.5, 0.3]]).log()
    assert draw(logits, column(temperature), column(top_p), column(number)).tolist() == [token]


def test_uniform_numbers_are_uniform_and_counted() -> None:
    numbers = [uniform(seed, step) for seed in range(50) for step in range(40)]
    assert len(set(numbers)) == 2000 and min(numbers) >= 0 and max(numbers) < 1
    assert abs(sum(numbers) / 2000 - 0.5) < 0.02
    assert uniform(7, 3) == numbers[7 * 40 + 3]


@given(
    st.lists(st.sampled_from(["\n", " ", "[Input]", "[In", "put]", "song", "é", "。", "]", "[Output]: x"]), max_size=9)
)
@settings(deadline=None)
def test_an_answer_read_token_by_token_ends_where_the_whole_text_would(tiny_tokenizer: Any, words: list[str]) -> None:
    text = "".join(words)
    answer = Answer(Pieces(tiny_tokenizer, frozenset({1})), max_new_tokens=100)
    for token in tiny_tokenizer(text)["input_ids"]:
        if not answer.finish:
            answer.add(token)
    assert answer.text == cut(text)
    assert answer.finish == (STOP if "\n" in text.lstrip() or "[Input]" in text.lstrip().split("\n")[0] else "")


def test_the_end_token_and_the_limit_finish_an_answer(tiny_tokenizer: Any) -> None:
    pieces = Pieces(tiny_tokenizer, frozenset({1}))
    song = tiny_tokenizer(" song")["input_ids"]
    ended, full = Answer(pieces, 50), Answer(pieces, len(song))
    for token in [*song, 1]:
        ended.add(token)
    for token in song:
        full.add(token)
    assert (ended.text, ended.finish) == (" song", STOP)
    assert (full.text, full.finish) == (" song", LENGTH)


@given(st.lists(st.tuples(st.text("a[]\n :é", max_size=6), st.text("a[]\n :é", max_size=6)), max_size=6))
@settings(deadline=None)
def test_shared_and_own_tokens_are_the_prompts(tiny_tokenizer: Any, pairs: list[tuple[str, str]]) -> None:
    def encode(text: str) -> list[int]:
        return list(tiny_tokenizer(text)["input_ids"])

    asked = [request(str(at), *pair) for at, pair in enumerate(pairs)]
    prompts = tokenised(encode, asked)
    assert sorted(one.request.clip_id for one in prompts) == sorted(one.clip_id for one in asked)
    for prompt in prompts:
        assert [*prompt.shared, *prompt.own] == encode(prompt.request.prompt)
        assert prompt.own or not prompt.request.prompt


def test_a_merge_over_the_border_shares_one_token_less() -> None:
    def encode(text: str) -> list[int]:  # "bc" is one token
        return [ord(character) for character in text.replace("bc", "X")]

    merged, plain = tokenised(encode, [request("1", "aab", "c"), request("2", "aab", "d")])
    assert (merged.shared, merged.own) == ((), (97, 97, ord("X")))
    assert (plain.shared, plain.own) == ((), (97, 97, 98, 100))
    both = tokenised(encode, [request("1", "aab", "c"), request("2", "aab", "cc")])
    assert {prompt.shared for prompt in both} == {(97, 97)}


def test_shared_tokens_are_counted_once() -> None:
    asked = [
        request("1", "four", "12"),
        request("2", "four", "123"),
        request("3", "lonely", "1"),
        request("4", "", "1"),
    ]
    # 6 + 7 + 7 + 1 tokens; of the first two 4 are the same.
    assert shared_tokens(lambda text: list(map(ord, text)), asked) == (4, 21, 17)


@pytest.fixture
def widths(bloom: Any, monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, int]]:
    """Shapes of what the model reads."""
    seen: list[tuple[int, int]] = []
    usual = bloom.forward

    def forward(input_ids: Any, **kwargs: Any) -> Any:
        seen.append(tuple(input_ids.shape))
        return usual(input_ids=input_ids, **kwargs)

    monkeypatch.setattr(bloom, "forward", forward)
    return seen


def test_a_shared_prefix_is_read_once(bloom: Any, run: Any, widths: list[tuple[int, int]]) -> None:
    prefix = "[Input]: zzz\n" * 20
    run(bloom, [request(str(at), prefix, f"[Input]: {at}\n[Output]:") for at in range(9)], 4)
    assert sum(width > 100 for _, width in widths) == 1
    assert max(rows for rows, _ in widths) == 4


def test_completions_come_as_rows_finish(bloom: Any, tiny_tokenizer: Any, widths: list[tuple[int, int]]) -> None:
    asked = [request("short", "", "[Output]:", max_new_tokens=2), request("long", "", "[Output]:", max_new_tokens=40)]
    completions = Engine(bloom, tiny_tokenizer, 2).complete(asked)
    assert next(completions).request.clip_id == "short"
    steps = len(widths)
    assert next(completions).request.clip_id == "long"
    assert steps < 5 < len(widths)
    assert widths[-1][0] == 1  # the finished row has left


def test_logits_that_are_no_numbers_end_their_row_alone(
    tiny_model: Callable[..., Any], tiny_tokenizer: Any, run: Any
) -> None:
    model = tiny_model("bloom", tie_word_embeddings=False)
    asked = [request(str(at), "[Input]: a\n", f"{letter}\n[Output]:") for at, letter in enumerate("xyQz")]
    before = run(model, asked)
    with torch.no_grad():
        model.get_input_embeddings().weight[tiny_tokenizer("Q")["input_ids"][0]] = float("nan")
    done = {one.request.clip_id: one for one in Engine(model, tiny_tokenizer, 4).complete(asked)}
    assert (done["2"].finish, done["2"].text) == (ERROR, "")
    assert done["2"].detail.startswith("not_finite")
    others = {"0", "1", "3"}
    assert {name: (done[name].text, done[name].finish) for name in others} == {name: before[name] for name in others}


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB"),
        RuntimeError("[enforce fail at alloc_cpu.cpp:121] err == 0. DefaultCPUAllocator: can't allocate memory"),
    ],
)
def test_out_of_memory_halves_the_batch_and_loses_nothing(
    bloom: Any, run: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, error: RuntimeError
) -> None:
    expected = run(bloom, requests())
    usual, calls = Steps.step, [0]

    def step(self: Steps, batch: Any) -> Any:
        calls[0] += 1
        if len(batch.jobs) > 6 and calls[0] > 3:  # in the middle of texts
            raise error
        return usual(self, batch)

    monkeypatch.setattr(Steps, "step", step)
    assert run(bloom, requests(), 16) == expected
    assert [record.message for record in caplog.records] == [
        "captioning: out of memory with 16 prompts at once; going on with 8",
        "captioning: out of memory with 8 prompts at once; going on with 4",
    ]


def test_a_prompt_that_does_not_fit_alone_is_an_error(
    bloom: Any, tiny_tokenizer: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    usual = Steps.begin

    def begin(self: Steps, jobs: Any, prefix: Any) -> Any:
        if any(len(job.prompt.own) > 100 for job in jobs):
            raise RuntimeError("not enough memory: you tried to allocate 9 bytes")
        return usual(self, jobs, prefix)

    monkeypatch.setattr(Steps, "begin", begin)
    asked = [request("long", "", "z " * 200), *requests()[:5]]
    done = list(Engine(bloom, tiny_tokenizer, 8).complete(asked))
    assert {one.request.clip_id for one in done if one.finish == ERROR} == {"long"}
    assert len(done) == 6 and all(one.detail.startswith("out_of_memory") for one in done if one.finish == ERROR)


def test_other_failures_are_not_taken_for_memory(bloom: Any, run: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def step(self: Steps, batch: Any) -> Any:
        raise RuntimeError("shapes do not match")

    monkeypatch.setattr(Steps, "step", step)
    with pytest.raises(RuntimeError, match="shapes"):
        run(bloom, requests())


def test_prompts_beyond_the_context_and_empty_ones_are_errors(
    tiny_model: Callable[..., Any], tiny_tokenizer: Any
) -> None:
    engine = Engine(tiny_model("gpt2"), tiny_tokenizer, 4, context=40)
    asked = [request("long", "z" * 20, "y" * 20), request("empty", "", ""), request("fine", "", "[Output]:")]
    done = {one.request.clip_id: one for one in engine.complete(asked)}
    assert done["long"].detail == (
        "too_long: a prompt of 40 tokens and 12 new ones are more than the model's context of 40"
    )
    assert done["empty"].detail.startswith("empty_prompt")
    assert done["fine"].finish in (STOP, LENGTH)


def test_other_precisions_run(tiny_model: Callable[..., Any], run: Any) -> None:
    texts = run(tiny_model("bloom").to(torch.bfloat16), requests())
    assert len(texts) == 22 and {finish for _, finish in texts.values()} <= {STOP, LENGTH}
