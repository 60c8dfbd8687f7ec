"""The page: whole in itself, safe with any name, and playable."""

import base64
import hashlib
import re
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest

from components.corpus.render import render_audio, render_video
from components.corpus.world import read_world
from components.evaluation.metrics_file import FUSED
from components.media import decoded, mono
from flows.gate.excerpts import Excerpts, excerpts, heard
from flows.gate.page import render
from flows.gate.report import Example, Examples, GateReport, Kind, Pick

from .gate_tables import asked, first, gated, quick, side


class Tags(HTMLParser):
    """Collects every element, and that each is closed."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.seen: list[tuple[str, dict[str, str | None]]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.append((tag, dict(attrs)))
        if tag not in ("meta", "input"):
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
    page = render(report(), Excerpts())
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
        parsed(render(gated(queries, side("version 1", first(100, 0.6)), theirs, kind, quick()), Excerpts()))


def test_names_cannot_become_markup() -> None:
    evil = '"><script>alert(1)</script>'
    rows = {
        f"clip-{at:04d}": {"title": evil, "artist": evil, "uri": evil, "start_s": 0, "end_s": 1} for at in range(100)
    }
    page = render(report(rows=rows, texts=dict.fromkeys(rows, evil)), Excerpts())
    assert "<script" not in page and "<b>loud" not in page
    parsed(page)


# -- what is played ---------------------------------------------------------------------------------

WORLD = Path(__file__).parents[2] / "components" / "corpus" / "world.yaml"
CLIPS = ("query", "ours", "theirs")


@pytest.fixture(scope="module")
def media(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three clips of 3 s, one of them without a picture, and a file that is none."""
    folder, world = tmp_path_factory.mktemp("media"), read_world(WORLD)
    render_video(world, 7, 1, 3.0, folder / "query.mp4")
    render_video(world, 7, 2, 3.0, folder / "ours.mp4")
    render_audio(world, 7, 3, 3.0, folder / "theirs.m4a")
    (folder / "broken.mp4").write_bytes(bytes(3000))
    return folder


def example(clip: str = "query", **more: object) -> Example:
    picks = {
        name: Pick(clip_id=name, uri=f"{name}.{kind}", start_s=1.0, end_s=3.0)
        for name, kind in (("query", "mp4"), ("ours", "mp4"), ("theirs", "m4a"))
    }
    told = {
        "clip_id": clip, "uri": f"{clip}.mp4", "start_s": 1.0, "end_s": 3.0, "title": "Right", "text": "calm <piano>", "ours_rank": 2,
        "ours_first": "Ours", "ours_pick": picks["ours"], "theirs_rank": 40, "theirs_first": "Theirs", "theirs_pick": picks["theirs"],
        "among_first": 10,
    }  # fmt: skip
    return Example.model_validate(told | more)


def played(uri: str, tmp_path: Path) -> Path:
    """The file that a data URI holds."""
    path = tmp_path / f"{hashlib.sha256(uri.encode()).hexdigest()}.mp4"
    path.write_bytes(base64.b64decode(uri.partition(",")[2]))
    return path


def test_a_picture_has_no_sound_of_its_own_and_each_pick_is_its_own_clip(media: Path, tmp_path: Path) -> None:
    made = excerpts(Examples(wins=(example(),), losses=()), media, 4.0)
    assert made.pictures.keys() == {"query"} and made.sounds.keys() == {*CLIPS}
    picture = played(made.pictures["query"], tmp_path)
    assert len(list(decoded(picture, "video", 0.0))) == 24, "12 a second"
    with pytest.raises(ValueError, match="no audio stream"):
        mono(picture, 8000)
    for clip, name in (("query", "query.mp4"), ("ours", "ours.mp4"), ("theirs", "theirs.m4a")):
        original = mono(media / name, 8000, 1.0, 3.0)
        kept = mono(played(made.sounds[clip], tmp_path), 8000, 0.0, 2.0)
        assert np.corrcoef(original, kept)[0, 1] > 0.95, f"{clip}: second 1 to 3 of its file"


def test_what_does_not_fit_or_cannot_be_played_is_left_out(media: Path) -> None:
    broken, absent = example("broken", uri="broken.mp4"), example("absent", uri="absent.mp4")
    mute = example("mute", uri="query.mp4", ours_pick=Pick(clip_id="broken", uri="broken.mp4", start_s=0, end_s=1))
    shown = Examples(wins=(broken, absent, mute), losses=(example(),))
    made = excerpts(shown, media, 4.0)
    assert made.pictures.keys() == {"mute", "query"}
    assert made.sounds.keys() == {"mute", *CLIPS}
    whole = sum(map(len, [*made.pictures.values(), *made.sounds.values()])) / 2**20
    fewer = excerpts(shown, media, whole - 0.001)
    assert fewer.pictures.keys() == {"query"}, "an example is there whole or not at all"
    assert excerpts(shown, media, 0.0) == Excerpts()


def test_of_a_long_clip_the_beginning_is_played(tmp_path: Path) -> None:
    render_audio(read_world(WORLD), 7, 3, 20.0, tmp_path / "long.m4a")
    render_video(read_world(WORLD), 7, 1, 1.0, tmp_path / "query.mp4")
    long = Pick(clip_id="long", uri="long.m4a", start_s=0.0, end_s=20.0)
    shown = example(start_s=0.0, end_s=1.0, ours_pick=long, theirs_pick=None)
    made = excerpts(Examples(wins=(shown,), losses=()), tmp_path, 4.0)
    assert len(mono(played(made.sounds["long"], tmp_path), 8000)) / 8000 == pytest.approx(15.0, abs=0.1)


def test_each_sound_can_be_chosen_by_name_and_nothing_else_runs(media: Path) -> None:
    same = example("ours", ours_pick=example().ours_pick, theirs_pick=example().ours_pick, ours_rank=1, theirs_rank=1)
    shown = Examples(wins=(example(),), losses=(same, example("absent", uri="absent.mp4")))
    page = render(report().model_copy(update={"examples": shown}), excerpts(shown, media, 4.0))
    tags = parsed(page)
    videos = [dict(attributes) for tag, attributes in tags.seen if tag == "video"]
    assert len(videos) == 2 and all({"muted", "controls", "aria-label"} <= video.keys() for video in videos)
    names = re.findall(r"<label>.*?<span>(.*?)</span><span class=\"of\">(.*?)</span></label>", page)
    assert names == [
        ("pick of version 2", "Ours"), ("pick of version 1", "Theirs"), ("its own track", "Right ✓ right"),
        ("pick of both", "Ours ✓ right"),
    ]  # fmt: skip
    ids = {attributes["id"] for tag, attributes in tags.seen if tag == "audio"}
    choices = [attributes for tag, attributes in tags.seen if tag == "input"]
    assert {attributes["value"] for attributes in choices} == ids == {f"sound-{clip}" for clip in CLIPS}
    assert [attributes["value"] for attributes in choices if "checked" in attributes] == ["sound-ours"] * 2
    assert "absent.mp4" in page and "calm &lt;piano&gt;" in page

    (script,) = re.findall(r"<script>(.*?)</script>", page, re.DOTALL)
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert f"script-src 'sha256-{digest}'" in page, "the page's policy lets this very script run, and no other"
    assert not re.search(r"""(?:src|href)=["'](?!data:)|url\(|@import|fetch\(|https?:""", page)


def test_reports_of_the_first_format_name_no_picks() -> None:
    old = example().model_dump(exclude={"ours_pick", "theirs_pick"})
    assert [pick.clip_id for pick in heard(Example.model_validate(old))] == ["query"]
