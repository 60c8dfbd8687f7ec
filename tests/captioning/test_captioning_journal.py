"""The journal of answers: nothing that was answered is asked again, whatever happened to the file."""

import errno
import json
import resource
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from components.captioning.completion import Completion, Request
from components.captioning.journal import Journal, complete_once


def request(number: int, clip_id: str = "", prompt: str = "") -> Request:
    text = prompt or f"prompt {number}"
    return Request(clip_id or f"c{number}", 0, "", text, temperature=0, top_p=1, seed=number, max_new_tokens=8)


def completion(number: int, text: str = "", finish: str = "stop") -> Completion:
    return Completion(request(number), text or f"text {number}", finish)


@dataclass
class Model:
    """Answers with the prompt in capitals; ends early where ``fail_at`` says so."""

    fail_at: int = 10**6
    asked: list[Request] = field(default_factory=list)
    closed: bool = False
    identity = "model-1"

    def complete(self, requests: Sequence[Request]) -> Iterator[Completion]:
        try:
            for number, one in enumerate(reversed(requests)):
                if number == self.fail_at:
                    raise ValueError("the model is gone")
                self.asked.append(one)
                failed = "bad" in one.prompt
                yield Completion(one, "" if failed else one.prompt.upper(), "error" if failed else "stop")
        finally:
            self.closed = True

    def tokens(self, text: str) -> None:
        return None


def texts(path: Path, requests: Sequence[Request], identity: str = "model-1") -> dict[str, str]:
    answered = Journal(path, identity).answered(requests)
    return {one.clip_id: answered[one.digest].text for one in requests if one.digest in answered}


ODD = [
    "",
    "\n",
    "two\nlines\r\n",
    "Жанр: 音楽 🎵",
    "\x00\x1b[31m",
    "\u2028 line separator",
    '"quoted\\" [Input]:',
    "\ud83c",
]


def test_what_was_added_is_there_again_whatever_its_letters(tmp_path: Path) -> None:
    path = tmp_path / "captions.parquet.partial" / "completions.jsonl"
    requests = [request(number) for number in range(len(ODD))]
    with Journal(path, "model-1") as journal:
        for one, text in zip(requests, ODD, strict=True):
            journal.add(Completion(one, text, "length"))
            # Already in the file, without closing or flushing anything.
            assert Journal(path, "model-1").answered([one]) == {one.digest: Completion(one, text, "length")}
    assert texts(path, requests) == {f"c{number}": text for number, text in enumerate(ODD)}
    assert len(path.read_bytes().splitlines()) == len(ODD)


def test_errors_are_no_answers_and_other_models_answers_are_not_taken(tmp_path: Path) -> None:
    path = tmp_path / "j"
    for identity, one in [
        ("model-1", completion(0)),
        ("model-2", completion(1)),
        ("model-1", completion(2, "x", "error")),
    ]:
        with Journal(path, identity) as journal:
            journal.add(one)
    requests = [request(number) for number in range(3)]
    assert texts(path, requests) == {"c0": "text 0"}
    assert texts(path, requests, "model-2") == {"c1": "text 1"}


def test_the_first_answer_counts_and_answers_known_from_elsewhere_are_not_written(tmp_path: Path) -> None:
    path = tmp_path / "j"
    known = [(request(0).digest, "stop", "from elsewhere"), (request(1).digest, "error", "")]
    with Journal(path, "model-1", known) as journal:
        for one in (completion(0), completion(1), completion(1, "another")):
            journal.add(one)
        answered = journal.answered([request(0), request(1)])
        assert [answered[request(n).digest].text for n in range(2)] == ["from elsewhere", "text 1"]
    assert len(path.read_text().splitlines()) == 1


LINES = st.lists(st.text(max_size=12) | st.sampled_from(ODD), min_size=1, max_size=6)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(LINES, st.data())
def test_a_cut_anywhere_loses_the_last_line_at_most(tmp_path: Path, written: list[str], data: st.DataObject) -> None:
    path = tmp_path / "j"
    path.unlink(missing_ok=True)
    sizes = [0]
    with Journal(path, "model-1") as journal:
        for number, text in enumerate(written):
            journal.add(Completion(request(number), text, "stop"))
            sizes.append(path.stat().st_size)
    cut = data.draw(st.integers(0, sizes[-1]))
    path.write_bytes(path.read_bytes()[:cut])
    requests = [request(number) for number in range(len(written) + 1)]
    # A line without its end is whole as well.
    whole = {f"c{n}": text for n, text in enumerate(written) if sizes[n + 1] - 1 <= cut}
    assert texts(path, requests) == whole
    with Journal(path, "model-1") as journal:
        journal.add(completion(len(written), "after the cut"))
    assert texts(path, requests) == whole | {f"c{len(written)}": "after the cut"}


def test_spoilt_lines_are_passed_over(tmp_path: Path) -> None:
    path = tmp_path / "j"
    with Journal(path, "model-1") as journal:
        journal.add(completion(0))
    good = json.loads(path.read_text())
    digest = request(1).digest
    odd = [
        b"\xff\xfe\x00garbage\x80", b"\x00" * 50, b"null", b"[" * 100_000, b'{"identity": "model-1"}', b"",
        *(json.dumps(good | {"digest": digest} | change).encode() for change in (
            {"text": 5}, {"text": None}, {"finish": "error"}, {"finish": []}, {"identity": ["model-1"]}, {"digest": 7},
        )),
    ]  # fmt: skip
    path.write_bytes(b"\n".join([*odd, path.read_bytes(), *odd]))
    with Journal(path, "model-1") as journal:
        assert list(journal.answered([request(0), request(1)])) == [request(0).digest]
        journal.add(completion(1))
    assert texts(path, [request(0), request(1)]) == {"c0": "text 0", "c1": "text 1"}


@contextmanager
def disk_full_after(size: int) -> Iterator[None]:
    """Let no file of this process grow beyond ``size`` bytes, as on a full disk."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_full_disk_is_an_error_and_leaves_no_half_line_to_be_misread(tmp_path: Path) -> None:
    path = tmp_path / "j"
    with Journal(path, "model-1") as journal:
        journal.add(completion(0))
        with disk_full_after(path.stat().st_size + 40), pytest.raises(OSError) as caught:  # half of the next line
            journal.add(completion(1))
        assert caught.value.errno == errno.EFBIG and caught.value.filename == str(path)
        assert texts(path, [request(0), request(1)]) == {"c0": "text 0"}
        journal.add(completion(1))  # there is room again
        journal.add(completion(2))
    assert texts(path, [request(n) for n in range(3)]) == {f"c{n}": f"text {n}" for n in range(3)}


def test_only_the_rest_is_asked_and_like_requests_once(tmp_path: Path) -> None:
    path = tmp_path / "j"
    with Journal(path, "model-1") as journal:
        journal.add(completion(1, "kept 1"))
        requests = [request(0, "a"), request(1, "b"), request(0, "c"), request(1, "d"), request(2, "e")]
        model = Model()
        made = list(complete_once(model, requests, journal))
    assert [(one.request.clip_id, one.text) for one in made[:2]] == [("b", "kept 1"), ("d", "kept 1")]
    assert {one.request.clip_id: one.text for one in made[2:]} == {"a": "PROMPT 0", "c": "PROMPT 0", "e": "PROMPT 2"}
    assert sorted(one.prompt for one in model.asked) == ["prompt 0", "prompt 2"]
    again = Model()
    with Journal(path, "model-1") as journal:
        assert {one.request.clip_id for one in complete_once(again, requests, journal)} == set("abcde")
    assert not again.asked


def test_an_answer_is_in_the_journal_before_it_is_used(tmp_path: Path) -> None:
    path = tmp_path / "j"
    model, requests = Model(), [request(number) for number in range(5)]
    made = complete_once(model, requests, Journal(path, "model-1"))
    first = next(made)
    assert texts(path, requests) == {first.request.clip_id: first.text}
    made.close()  # type: ignore[attr-defined]
    assert model.closed and len(model.asked) == 1


def test_a_model_that_ends_early_loses_nothing_and_errors_are_asked_again(tmp_path: Path) -> None:
    path = tmp_path / "j"
    requests = [request(0), request(1, prompt="bad"), request(2), request(3)]
    with Journal(path, "model-1") as journal, pytest.raises(ValueError, match="gone"):
        list(complete_once(Model(fail_at=3), requests, journal))
    with Journal(path, "model-1") as journal:
        model = Model()
        made = list(complete_once(model, requests, journal))
    assert {one.request.clip_id: one.finish for one in made} == {
        "c0": "stop",
        "c1": "error",
        "c2": "stop",
        "c3": "stop",
    }
    assert sorted(one.clip_id for one in model.asked) == ["c0", "c1"]


def test_a_journal_that_cannot_be_written_stops_the_model(tmp_path: Path) -> None:
    model, requests = Model(), [request(0), request(1)]
    with disk_full_after(1), pytest.raises(OSError):
        list(complete_once(model, requests, Journal(tmp_path / "j", "model-1")))
    assert model.closed and len(model.asked) == 1
    with pytest.raises(IsADirectoryError):
        list(complete_once(model, requests, Journal(tmp_path, "model-1")))
    assert len(model.asked) == 1
