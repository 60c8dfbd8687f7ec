"""The page: whole in itself, safe with any name, and playable."""

import base64
import re
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest

from components.evaluation.metrics_file import FUSED
from flows.gate.examples import embedded
from flows.gate.page import render
from flows.gate.report import GateReport, Kind

from .gate_tables import asked, first, gated, quick, side


class Tags(HTMLParser):
    """Collects every element, and that each is closed."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.seen: list[tuple[str, dict[str, str | None]]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.append((tag, dict(attrs)))
        if tag != "meta":
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def report(**more: object) -> GateReport:
    queries = asked(100, labels={"mood": ("calm",) * 50 + ("<b>loud</b>",) * 50}, **more)
    at = np.arange(100)
    ours = dict.fromkeys(("video", "text", FUSED), (at >= 10) & (at < 90))
    return gated(queries, side("version 2", ours), side("version 1", first(100, 0.6)), "champion", quick())


def parsed(page: str) -> Tags:
    tags = Tags()
    tags.feed(page)
    assert not tags.open
    return tags


def test_it_holds_everything_and_asks_the_network_for_nothing() -> None:
    page = render(report(), {})
    tags = parsed(page)
    assert not {"script", "link", "img", "iframe", "object"} & {tag for tag, _ in tags.seen}
    assert not re.search(r"""(?:src|href)=["'](?!data:)|url\(|@import""", page)
    assert sum(tag == "svg" for tag, _ in tags.seen) == 2
    words = re.sub(r"<[^>]*>", " ", page)
    for expected in ("80.0%", "60.0%", "+20.0", "version 2", "version 1", "Biggest wins", "Biggest losses", "calm"):
        assert expected in words


@pytest.mark.parametrize("kind", ["floors", "comparison"])
def test_other_kinds_are_pages_too(kind: Kind) -> None:
    queries = asked(100)
    for theirs in (side("CCA", first(100, 0.4)), None) if kind == "floors" else (side("run 12", first(100, 0.4)),):
        parsed(render(gated(queries, side("version 1", first(100, 0.6)), theirs, kind, quick()), {}))


def test_names_cannot_become_markup() -> None:
    evil = '"><script>alert(1)</script>'
    rows = {
        f"clip-{at:04d}": {"title": evil, "artist": evil, "uri": evil, "start_s": 0, "end_s": 1} for at in range(100)
    }
    page = render(report(rows=rows, texts=dict.fromkeys(rows, evil)), {})
    assert "<script" not in page and "<b>loud" not in page
    parsed(page)


def test_clips_are_embedded_up_to_the_budget_and_named_beyond_it(tmp_path: Path) -> None:
    (tmp_path / "media").mkdir()
    rows = {}
    for at in range(100):
        name = f"media/{at}.{'mp4' if at % 2 else 'txt'}"
        (tmp_path / name).write_bytes(bytes(3000))
        rows[f"clip-{at:04d}"] = {"uri": name, "start_s": 0, "end_s": 1}
    found = report(rows=rows)
    examples = found.examples
    shown = examples.wins + examples.losses
    playable = [row.clip_id for row in shown if str(row.uri).endswith("mp4")]
    media = embedded(examples, tmp_path, 1.0)
    assert sorted(media) == sorted(playable) and len(playable) >= 2
    assert base64.b64decode(media[playable[0]].partition(",")[2]) == bytes(3000)
    assert len(embedded(examples, tmp_path, 5000 / 2**20)) == 1, "4,000 bytes each in base64"
    assert embedded(examples, tmp_path, 0.0) == {}
    page = render(found, media)
    assert page.count("<video controls") == len(playable)
    assert all(str(row.uri) in page for row in shown if row.clip_id not in media)
