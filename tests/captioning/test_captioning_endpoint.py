"""``kind: endpoint`` against a real HTTP server that misbehaves: every request ends, none is paid for twice."""

import importlib.util
import itertools
import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path

import pytest
from tenacity import AsyncRetrying, RetryCallState

from components.captioning.completion import Completion, Request
from components.captioning.endpoint import Endpoint, Fault, pauses, retry_after_s
from components.captioning.journal import Journal, complete_once
from components.captioning.params import EndpointParams
from components.captioning.prompt import answer
from tests.captioning import completions_server as fake
from tests.captioning.completions_server import Completions, by_chance, by_rule, first_tries, serving, wait_until

ROOT = Path(__file__).parents[2]
KEY = "sk-Secret0123456789"
DECODING = {"temperature": 0.0, "retry_temperature": 0.7, "top_p": 0.9, "max_new_tokens": 24}
QUALITY = {
    "min_recall": 0.5, "max_hallucinated": 1, "leaked_words": 8, "leaked_share": 0.8, "min_words": 3, "max_words": 60,
    "near_duplicate": 0.8, "max_cluster": 0.2, "least_yield": 0.9,
}  # fmt: skip


def section(url: str, **update: object) -> dict[str, object]:
    values: dict[str, object] = {
        "kind": "endpoint", "seed": 1, "attempts": 1, "otherwise": "data2text", "quality": QUALITY,
        "prompt": {
            "exemplars": 1, "selection": {"kind": "nearest"}, "max_tags": 3, "token_budget": 512,
        },
        "decoding": DECODING, "url": url, "model": "tiny", "revision": "1", "key_variable": "NEEDLEDROP_TEST_KEY",
        "concurrency": 8, "timeout_s": 5.0, "retries": 3, "longest_wait_s": 0.02,
    }  # fmt: skip
    return values | update


def endpoint(url: str, **update: object) -> Endpoint:
    return Endpoint(EndpointParams.model_validate(section(url, **update)))


def request(number: int, temperature: float = 0.0, max_new_tokens: int = 24) -> Request:
    suffix = f"[Input]: GENRES: rock ({number / 10:.1f}%)\n[Output]:"
    return Request(f"c{number:03d}", 0, "[Input]: a\n[Output]: b\n", suffix, temperature, 0.9, number, max_new_tokens)


def requests(count: int) -> list[Request]:
    return [request(number) for number in range(count)]


def results(made: Sequence[Completion]) -> list[tuple[str, str, str]]:
    return sorted((one.request.clip_id, one.text, one.finish) for one in made)


def expected(asked: Sequence[Request]) -> list[tuple[str, str, str]]:
    return [(one.clip_id, *fake.text_of(one.prompt)) for one in asked]


def saying(text: object, reason: object = "stop") -> Callable[[bytes], fake.Answer]:
    body = json.dumps({"choices": [{"text": text, "finish_reason": reason}]}).encode()
    return lambda raw: (200, body)


@pytest.fixture(autouse=True)
def _plain_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.delenv("NEEDLEDROP_TEST_KEY", raising=False)


@pytest.fixture(autouse=True)
def _leaves_no_thread() -> Iterator[None]:
    yield
    assert not [thread for thread in threading.enumerate() if thread.name == "captioning-endpoint"]


# -- what is asked, and what an answer is ---------------------------------------------------------


def test_what_is_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NEEDLEDROP_TEST_KEY", f" {KEY}\n")
    with serving(Completions(by_rule)) as server:
        model = endpoint(f"{server.url}/", concurrency=1)
        list(model.complete([request(1), request(2**40 + 2, temperature=0.7)]))
    greedy, sampled = server.asked
    same = {"model": "tiny", "max_tokens": 24, "stop": ["\n[", "[Input]:"]}
    assert greedy.body == {**same, "prompt": request(1).prompt, "temperature": 0.0}
    sampling = {"temperature": 0.7, "top_p": 0.9, "seed": 2}  # no server takes more than 32 bits for certain
    assert sampled.body == {**same, "prompt": request(2**40 + 2).prompt, **sampling}
    assert greedy.path == "/v1/completions"
    assert greedy.authorization == f"Bearer {KEY}"
    assert KEY not in repr(model) + model.identity
    assert "tiny" in model.identity and "127.0.0.1" not in model.identity
    assert endpoint(server.url, revision="2").identity != model.identity
    assert model.tokens("a word") is None
    assert list(model.complete([])) == []


def test_no_key_no_header() -> None:
    with serving(Completions(by_rule)) as server:
        list(endpoint(server.url).complete([request(1)]))
    assert server.asked[0].authorization is None


@pytest.mark.parametrize(
    ("text", "reason", "finish"),
    [
        (" A song.", "stop", "stop"),
        (" A song that goes", "length", "length"),
        (" A song.\n[Inp", "length", "stop"),  # the answer's line is complete all the same
        ("\n A song that goes", "length", "length"),
        (" A song. [Input]: x", "length", "stop"),
        ("", "stop", "stop"),
        (" A song.", None, "stop"),
        (" A song.", ["odd"], "stop"),
        (" half a pair \ud83c", "stop", "stop"),
    ],
)
def test_an_answer(text: str, reason: object, finish: str) -> None:
    with serving(Completions(saying(text, reason))) as server:
        (made,) = endpoint(server.url).complete([request(1)])
    assert (made.text, made.finish) == (text.replace("\ud83c", "\ufffd"), finish)


@pytest.mark.parametrize(
    ("body", "detail"),
    [
        (b"", "not JSON: ''"),
        (b"\xff\xfe\x00", "not JSON"),
        (b"[" * 50_000, "not JSON"),
        (b"[]", "no text"),
        (b'{"error": {"message": "out of memory"}}', "out of memory"),
        (b'{"choices": []}', "no text"),
        (b'{"choices": {"text": "x"}}', "no text"),
        (b'{"choices": [{"text": null}]}', "no text"),
        (b'{"choices": [{"text": 5}]}', "no text"),
        (b'{"choices": [{"message": {"content": "x"}}]}', "no text"),
        (b'{"choices": [{"text": "x", "finish_reason": "abort"}]}', "stopped by itself (abort)"),
        (b" " * (4 * 2**20 + 1), "more than 4 MiB"),
    ],
)
def test_what_is_no_answer_is_asked_for_again_and_then_an_error_of_its_row(body: bytes, detail: str) -> None:
    bad = request(1)

    def odd(raw: bytes) -> fake.Answer:
        return (200, body) if json.loads(raw)["prompt"] == bad.prompt else by_rule(raw)

    with serving(Completions(odd)) as server:
        made = {one.request.clip_id: one for one in endpoint(server.url, retries=1).complete([bad, request(2)])}
    assert made["c001"].finish == "error" and made["c001"].text == ""
    assert detail in made["c001"].detail and "tried 2 times" in made["c001"].detail
    assert made["c002"].finish == "stop" and server.received[bad.prompt] == 2


# -- faults ---------------------------------------------------------------------------------------


def test_200_requests_under_all_faults_end_once_each_and_as_if_nothing_had_happened() -> None:
    asked = requests(200)
    faults = by_chance(0.4, seed=5)
    tries = [next(n for n in itertools.count() if faults(one.prompt, n) is None) for one in asked]
    met = {faults(one.prompt, n) for one, count in zip(asked, tries, strict=True) for n in range(count)}
    assert met == set(fake.FAULTS), "the schedule holds every fault"
    with serving(Completions(by_rule, faults)) as server:
        made = list(endpoint(server.url, concurrency=16, timeout_s=1.0, retries=max(tries)).complete(asked))
    assert results(made) == expected(asked)
    assert {one.finish for one in made} == {"stop", "length"} and "" in {one.text for one in made}
    assert set(server.answered.values()) == {1} and len(server.answered) == 200
    assert sum(server.received.values()) == 200 + sum(tries)


def test_at_most_concurrency_requests_are_under_way() -> None:
    with serving(Completions(by_rule, wait_s=0.02)) as server:
        made = list(endpoint(server.url, concurrency=5).complete(requests(60)))
    assert len(made) == 60 and server.most_under_way == 5


def test_answers_that_the_caller_has_not_taken_hold_their_places() -> None:
    with serving(Completions(by_rule)) as server:
        made = endpoint(server.url, concurrency=4).complete(requests(40))
        next(made)
        time.sleep(0.2)
        assert sum(server.received.values()) == 4
        assert len(list(made)) == 39


def test_a_body_that_drips_for_ever_ends_at_the_deadline() -> None:
    slow = request(0)
    with serving(Completions(by_rule, lambda prompt, before: fake.SLOW if prompt == slow.prompt else None)) as server:
        begun = time.monotonic()
        made = {
            one.request.clip_id: one for one in endpoint(server.url, timeout_s=0.3, retries=1).complete(requests(3))
        }
        took = time.monotonic() - begun
    assert made["c000"].detail == "no whole answer within 0.3 s (tried 2 times)"
    assert [made[f"c00{n}"].finish for n in range(3)] == ["error", "stop", "stop"]
    assert 0.6 <= took < 3


@pytest.mark.parametrize("status", [400, 413, 422])
def test_a_refused_prompt_is_an_error_of_its_row_at_once(status: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NEEDLEDROP_TEST_KEY", KEY)
    long = request(0)

    def strict(raw: bytes) -> fake.Answer:
        if json.loads(raw)["prompt"] != long.prompt:
            return by_rule(raw)
        return status, f'{{"error": "too long,\n \x1b[31m{KEY}"}}'.encode()

    with serving(Completions(strict)) as server:
        made = {one.request.clip_id: one for one in endpoint(server.url).complete(requests(3))}
    assert made["c000"].finish == "error"
    assert made["c000"].detail == f'{status} {{"error": "too long, [31m***"}}'
    assert server.received[long.prompt] == 1
    assert made["c001"].finish == made["c002"].finish == "stop"


def test_one_bad_row_does_not_stop_a_run_even_alone() -> None:
    bad = request(0)
    with serving(Completions(by_rule, lambda prompt, before: 500 if prompt == bad.prompt else None)) as server:
        (made,) = endpoint(server.url, concurrency=1).complete([bad])
    assert made.finish == "error" and made.detail == '500 {"error": {"message": "injected"}} (tried 4 times)'


# -- errors of the whole run ----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("status", "words"),
    [
        (401, "answered 401 to the key of the environment variable NEEDLEDROP_TEST_KEY; set NEEDLEDROP_TEST_KEY"),
        (403, "answered 403 to the key of"),
        (404, "check captioning.url (ends before /completions) and captioning.model"),
        (405, "answered '405 wrong: ***' to the key"),
        (307, "a redirect to 'http://elsewhere.example/v1'; redirects are not followed"),
    ],
)
def test_what_concerns_every_request_stops_the_run(
    status: int, words: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("DEBUG")
    monkeypatch.setenv("NEEDLEDROP_TEST_KEY", KEY)
    to = {"Location": "http://elsewhere.example/v1?key=x"}
    server = Completions(lambda raw: (status, f"wrong: {KEY}".encode()), headers=to)
    with serving(server), pytest.raises(ValueError) as caught:
        list(endpoint(f"{server.url}?code=secret").complete(requests(500)))
    message = str(caught.value)
    assert words in message and "\n" not in message and f"{server.url}/completions" in message
    assert KEY not in message + caplog.text and "secret" not in message
    assert sum(server.received.values()) <= 8 and set(server.received.values()) == {1}


def test_without_a_key_the_message_says_so() -> None:
    with serving(Completions(lambda raw: (401, b""))) as server, pytest.raises(ValueError) as caught:
        list(endpoint(server.url).complete(requests(2)))
    assert "401 to no key, as NEEDLEDROP_TEST_KEY is not set" in str(caught.value)


def test_a_server_that_is_not_there_stops_the_run_soon() -> None:
    with serving(Completions(by_rule)) as server:
        url = server.url
    with pytest.raises(
        ValueError,
        match=r"captioning.url: http://127\S+ does not answer, not even one word: ConnectError.*tried 4 times",
    ):
        list(endpoint(url).complete(requests(1000)))
    with pytest.raises(ValueError, match="does not answer"):
        list(endpoint(url).complete(requests(1)))


@pytest.mark.parametrize("fault", [fake.PAGE, 503, 400])
def test_a_server_that_never_answers_is_not_asked_a_million_times(fault: object) -> None:
    with serving(Completions(by_rule, lambda prompt, before: fault)) as server, pytest.raises(ValueError) as caught:
        list(endpoint(server.url, concurrency=4, retries=1).complete(requests(1000)))
    assert "does not answer" in str(caught.value) and "kept, run again" in str(caught.value)
    assert len(server.received) <= 20


def test_a_server_that_dies_half_way_stops_the_run_and_what_it_answered_is_kept(tmp_path: Path) -> None:
    asked = requests(60)
    with Journal(tmp_path / "j", "m") as journal:
        with serving(Completions(by_rule)) as server:
            server.fault = lambda prompt, before: 502 if len(server.answered) >= 30 else None
            with pytest.raises(ValueError, match="does not answer, not even one word: 502"):
                list(complete_once(endpoint(server.url, retries=1), asked, journal))
        kept = len(journal.answered(asked))
        assert 30 <= kept == len(server.answered) < 40
    with serving(Completions(by_rule)) as server, Journal(tmp_path / "j", "m") as journal:
        made = list(complete_once(endpoint(server.url), asked, journal))
    assert results(made) == expected(asked) and sum(server.received.values()) == 60 - kept


def test_addresses_and_keys_that_cannot_be_used(monkeypatch: pytest.MonkeyPatch) -> None:
    for url in ("http://", "http://[::1", "http://host:port/v1"):
        with pytest.raises(ValueError, match=r"captioning.url is no address"):
            endpoint(url)
    with pytest.raises(ValueError, match=r"captioning.url holds a user or a password.*NEEDLEDROP_TEST_KEY") as caught:
        endpoint("http://user:pass@host/v1")
    assert "pass@" not in str(caught.value)
    for key in ("ключ", "two words", "line\nend", "\x00"):
        monkeypatch.setattr(os, "environ", {**os.environ, "NEEDLEDROP_TEST_KEY": key})
        with pytest.raises(ValueError, match="variable NEEDLEDROP_TEST_KEY has characters") as caught:
            list(endpoint("http://127.0.0.1:9/v1").complete([request(1)]))
        assert key not in str(caught.value)


# -- pauses ---------------------------------------------------------------------------------------


def pause_s(number: int, wish_s: float | None, longest_s: float) -> float:
    """The pause after try ``number`` (from 0), where the server wishes for one of ``wish_s``."""
    state = RetryCallState(AsyncRetrying(), None, (), {})
    state.attempt_number = number + 1
    fault = Fault("429", wish_s)
    state.set_exception((Fault, fault, fault.__traceback__))
    return pauses(longest_s)(state)


def test_pauses_double_have_full_jitter_and_keep_to_the_servers_wish() -> None:
    for number, limit in enumerate([0.5, 1, 2, 4, 5, 5]):
        drawn = [pause_s(number, None, longest_s=5) for _ in range(400)]
        assert 0 <= min(drawn) < 0.1 * limit and 0.9 * limit < max(drawn) <= limit
    assert all(2 <= pause_s(0, 2.0, longest_s=5) <= 2.5 for _ in range(100))
    assert pause_s(0, 3600.0, longest_s=5) == 5


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("3", 3.0), ("0.5", 0.5), ("-1", 0.0), ("", None), ("soon", None), ("nan", None), ("inf", None),
        ("Thu, 01 Jan 2026 00:00:10 GMT", 10.0), ("Wed, 31 Dec 2025 23:00:00 GMT", 0.0),
    ],
)  # fmt: skip
def test_retry_after(value: str, seconds: float | None) -> None:
    assert retry_after_s(value, datetime(2026, 1, 1, tzinfo=UTC)) == seconds


def test_retry_after_is_waited_for() -> None:
    with serving(Completions(by_rule, first_tries(429))) as server:
        server.retry_after = "0.3"
        begun = time.monotonic()
        (made,) = endpoint(server.url, longest_wait_s=30).complete([request(1)])
    assert made.finish == "stop" and 0.3 <= time.monotonic() - begun < 3


# -- ends -----------------------------------------------------------------------------------------


def test_a_caller_that_leaves_hangs_up_on_all_that_is_under_way() -> None:
    with serving(Completions(by_rule, lambda prompt, before: fake.SLOW)) as server:
        server.fault = lambda prompt, before: None if len(server.asked) <= 3 else fake.SLOW
        made = endpoint(server.url, concurrency=6, timeout_s=60).complete(requests(100))
        for _ in range(3):
            next(made)
        wait_until(lambda: server.under_way >= 5)
        begun = time.monotonic()
        made.close()  # type: ignore[attr-defined]
        wait_until(lambda: server.under_way == 0)  # the server has seen the connections close
        assert time.monotonic() - begun < 2
        assert sum(server.received.values()) <= 9


def test_a_caller_that_leaves_cuts_pauses_short() -> None:
    asked = requests(3)
    with serving(Completions(by_rule, lambda prompt, before: 429 if prompt != asked[0].prompt else None)) as server:
        server.retry_after = "60"
        made = endpoint(server.url, longest_wait_s=60).complete(asked)
        assert next(made).request == asked[0]
        wait_until(lambda: len(server.asked) == 3 and server.under_way == 0)
        begun = time.monotonic()
        made.close()  # type: ignore[attr-defined]
        assert time.monotonic() - begun < 5
        assert len(server.asked) == 3


def test_ctrl_c_is_heard_while_nothing_comes() -> None:
    def interrupted(number: int, frame: object) -> None:
        raise KeyboardInterrupt

    usual = signal.signal(signal.SIGUSR1, interrupted)
    try:
        with serving(Completions(by_rule, lambda prompt, before: fake.SLOW)) as server:
            made = endpoint(server.url, timeout_s=60).complete(requests(20))
            threading.Timer(0.2, os.kill, (os.getpid(), signal.SIGUSR1)).start()
            begun = time.monotonic()
            with pytest.raises(KeyboardInterrupt):
                next(made)
            assert time.monotonic() - begun < 10
    finally:
        signal.signal(signal.SIGUSR1, usual)


RUN = """
import json, sys
from pathlib import Path
from components.captioning.completion import Request
from components.captioning.endpoint import Endpoint
from components.captioning.journal import Journal, complete_once
from components.captioning.params import EndpointParams

model = Endpoint(EndpointParams.model_validate_json(sys.argv[1]))
asked = [Request(**one) for one in json.loads(Path(sys.argv[2]).read_text())]
folder = Path(sys.argv[3])
with Journal(folder / "captions.partial" / "completions.jsonl", model.identity) as journal:
    made = [[one.request.clip_id, one.text, one.finish] for one in complete_once(model, asked, journal)]
(folder / "result.json").write_text(json.dumps(sorted(made)))
"""


def test_killed_half_way_nothing_that_was_answered_is_asked_again(tmp_path: Path) -> None:
    asked = requests(400)
    listed = tmp_path / "requests.json"
    fields = ["clip_id", "attempt", "prefix", "suffix", "temperature", "top_p", "seed", "max_new_tokens"]
    listed.write_text(json.dumps([{name: getattr(one, name) for name in fields} for one in asked]))

    def start(url: str, folder: str) -> "subprocess.Popen[bytes]":
        (tmp_path / folder).mkdir(exist_ok=True)
        command = [sys.executable, "-c", RUN, json.dumps(section(url)), str(listed), str(tmp_path / folder)]
        return subprocess.Popen(command, cwd=ROOT)

    with serving(Completions(by_rule, wait_s=0.01)) as server:
        process = start(server.url, "killed")
        wait_until(lambda: len(server.answered) >= 200)
        process.send_signal(signal.SIGKILL)
        assert process.wait() == -signal.SIGKILL
        wait_until(lambda: server.under_way == 0)
        path = tmp_path / "killed" / "captions.partial" / "completions.jsonl"
        kept = Journal(path, endpoint(server.url).identity).answered(asked)
        assert 180 <= len(kept) < 400 and not (tmp_path / "killed" / "result.json").exists()
        lost = len(server.received) - len(kept)
        assert 0 <= lost <= 8  # under way, or just arrived
        assert start(server.url, "killed").wait() == 0
    again = {prompt for prompt, count in server.received.items() if count > 1}
    assert not again & {one.request.prompt for one in kept.values()} and len(again) == lost
    assert sum(server.received.values()) == 400 + lost
    with serving(Completions(by_rule)) as server:
        assert start(server.url, "undisturbed").wait() == 0
    result, undisturbed = ((tmp_path / name / "result.json").read_bytes() for name in ("killed", "undisturbed"))
    assert result == undisturbed and len(json.loads(result)) == 400


# -- a real completions server --------------------------------------------------------------------


def analogy(number: int) -> Request:
    """One of 24 prompts that mini-BLOOM understands."""
    genre, mood = (
        ("folk", "jazz", "rock", "techno")[number % 4],
        ("sad", "calm", "dark", "happy", "tense", "dreamy")[number // 4],
    )
    shown = "[Input]: GENRES: pop (81.0%); MOODS: fun (60.0%)\n[Output]: A fun pop tune.\n"
    suffix = f"[Input]: GENRES: {genre} (70.0%); MOODS: {mood} (55.0%)\n[Output]:"
    return Request(f"c{number:03d}", 0, shown, suffix, 0.0, 0.9, number, 24)


MISSING = [name for name in ("accelerate", "fastapi", "uvicorn", "openai") if importlib.util.find_spec(name) is None]


@pytest.mark.skipif(bool(MISSING), reason=f"`transformers serve` needs {', '.join(MISSING)}")
def test_transformers_serve_behind_a_line_that_fails(tmp_path: Path) -> None:
    """Mini-BLOOM on loopback: its answers are those of `generate`, and every row ends once."""
    folder = ROOT / "components" / "captioning" / "mini_bloom" / "weights"
    asked = [analogy(number) for number in range(24)]
    prompts, said, greedily = tmp_path / "prompts.json", tmp_path / "serve.log", tmp_path / "greedy.json"
    prompts.write_text(json.dumps([one.prompt for one in asked]))
    command = [sys.executable, "-m", "tests.captioning.bloom_server", str(folder), str(greedily), "24"]
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
    with said.open("wb") as log, prompts.open("rb") as given:
        process = subprocess.Popen(command, stdin=given, stdout=log, stderr=log, env=environment, cwd=ROOT)
    try:
        port = ""

        def is_up() -> bool:
            nonlocal port
            assert process.poll() is None, said.read_text()
            found = re.search(r"running on http://127\.0\.0\.1:(\d+)", said.read_text())
            port = found[1] if found else ""
            return bool(found)

        wait_until(is_up, limit_s=300)
        # No fault that waits for a deadline: on a busy machine the model may need as long for a real answer.
        faults = by_chance(0.4, seed=3, faults=(429, 500, fake.RESET, fake.HALF))
        with serving(Completions(fake.passed_on(int(port)), faults)) as proxy:
            model = endpoint(proxy.url, model=str(folder), timeout_s=60.0, retries=12, concurrency=4)
            made = list(complete_once(model, asked, Journal(tmp_path / "j", model.identity)))
    finally:
        process.terminate()
        try:
            process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
    texts = {one.request.clip_id: answer(one.text) for one in made}
    greedy = [answer(text) for text in json.loads(greedily.read_text())]
    assert len(set(greedy)) >= 10, "prompts are told apart"
    assert [texts[one.clip_id] for one in asked] == greedy and len(made) == len(asked)
    assert {one.finish for one in made} <= {"stop", "length"}
    assert set(proxy.answered.values()) == {1} and sum(proxy.received.values()) > 30
