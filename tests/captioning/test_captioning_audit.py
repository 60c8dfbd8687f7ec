"""The report, the suite and the page of a set of captions."""

import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from components.captioning.audit import summarise, wilson, write_quality
from components.captioning.captioner import Tagged
from components.captioning.page import SAMPLED, AuditRow, audit_page, sample
from components.captioning.params import QualityParams
from components.captioning.quality import Judgement, judge
from components.taxonomy import read_taxonomy

TAXONOMY = read_taxonomy(Path(__file__).parents[2] / "components" / "taxonomy.yaml")
LIMITS = QualityParams(
    min_recall=0.6,
    max_hallucinated=0,
    leaked_words=8,
    leaked_share=0.8,
    min_words=2,
    max_words=60,
    near_duplicate=0.7,
    max_cluster=0.5,
    least_yield=0.8,
)
TAGS = {"genres": (("folk", 0.9),), "moods": (("calm", 0.5),), "instruments": (("flute", 0.7),)}


def row(name: str, text: str = "A calm folk tune with flute.", verdict: str = "ok", attempts: int = 1) -> AuditRow:
    clip = Tagged(name, TAGS)
    return AuditRow(clip, text, verdict, attempts, judge(text, "stop", clip, (), TAXONOMY, LIMITS))


def test_the_report_counts_by_hand() -> None:
    rows = [
        row("a"),
        row("b", "Calm folk.", attempts=2),  # recall 2/3
        row("c", "Calm folk with flute, drums and piano.", "fallback", 4),
        row("d", "Calm folk with flute but no flute.", "fallback", 4),
        row("e", "Flute, fast and slow.", "quarantined", 4),
        AuditRow(Tagged("f", {"genres": (), "moods": (), "instruments": ()}), "A piece.", "no_tags", 0, Judgement(())),
    ]
    found = summarise(rows, LIMITS, "bloom")
    assert found["rows"] == 6 and found["verdicts"] == {"fallback": 2, "no_tags": 1, "ok": 2, "quarantined": 1}
    assert found["yield"]["value"] == 0.4 and found["yield"]["of"] == 5, "two of the five clips with tags"
    assert found["recall"] == round((1 + 2 / 3 + 1 + 1) / 4, 6)
    assert (found["hallucination_rate"], found["hallucinated_terms"]) == (0.25, 0.5)
    assert (found["contradictions"], found["leaks"]) == (1, 0)
    assert found["reasons"] == {"contradiction": 1, "hallucinated": 1}
    assert found["attempts"] == {"1": 1, "2": 1, "4": 3}
    assert found["collection"]["captions"] == 4, "what is not published, or tells nothing, is not described"


def test_no_captions_have_no_figures() -> None:
    found = summarise([], LIMITS, "tags")
    assert found["recall"] is found["yield"]["value"] is found["hallucination_rate"] is None
    assert (found["yield"]["low"], found["yield"]["high"]) == (0.0, 1.0)


def test_wilson_by_hand() -> None:
    # z = 1.96, z^2 = 3.8415; 8 of 10: centre (0.8 + 0.19207) / 1.38415 = 0.71674, half width 0.22658.
    low, high = wilson(8, 10)
    assert low == pytest.approx(0.49016, abs=1e-5) and high == pytest.approx(0.94332, abs=1e-5)
    # 0 of n: high is z^2 / (n + z^2).
    assert wilson(0, 20) == (0.0, pytest.approx(3.841459 / 23.841459, abs=1e-6))
    assert wilson(20, 20) == (pytest.approx(20 / 23.841459, abs=1e-6), 1.0)
    assert wilson(0, 0) == (0.0, 1.0)
    assert wilson(8, 10, 0.99)[0] < low < 0.8 < high < wilson(8, 10, 0.99)[1]


@pytest.mark.parametrize(("successes", "n", "confidence"), [(-1, 3, 0.95), (4, 3, 0.95), (1, 3, 1.0), (1, 3, 0.0)])
def test_impossible_shares_are_refused(successes: int, n: int, confidence: float) -> None:
    with pytest.raises(ValueError, match=f"{successes} successes of {n}"):
        wilson(successes, n, confidence)


def test_equal_captions_give_equal_files_and_the_suite_tells_what_failed(tmp_path: Path) -> None:
    rows = [row(f"c{n}", f"A calm folk tune with flute, of the evening number {n}.") for n in range(8)]
    first = write_quality(tmp_path / "one", rows, TAXONOMY, LIMITS, "bloom")
    second = write_quality(tmp_path / "two", rows[::-1], TAXONOMY, LIMITS, "bloom")
    names = sorted(path.name for path in (tmp_path / "one").iterdir())
    assert first == second and names == ["audit.html", "report.json", "suite.json"]
    for name in names:
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()
    assert json.loads((tmp_path / "one" / "report.json").read_text()) == first
    assert first["suite"] == {"passed": True, "warnings": 1}, "they are all alike: one cluster"

    bad = [*rows, row("bad", "Calm folk with a flute and no flute.", "fallback"), row("c0", "Calm folk, flute.", "odd")]
    report = write_quality(tmp_path / "one", bad, TAXONOMY, LIMITS, "bloom")
    suite = json.loads((tmp_path / "one" / "suite.json").read_text())
    failed = {(each["column"], *each["clips"]) for each in suite["suites"]["captions"] if not each["success"]}
    assert failed == {("clip_id", "c0"), ("verdict", "c0"), ("contradictions", "bad")}
    assert report["suite"]["passed"] is False


def test_nothing_to_judge_is_written_too(tmp_path: Path) -> None:
    report = write_quality(tmp_path / "none", [], TAXONOMY, LIMITS, "tags")
    assert report["suite"] == {"passed": True, "warnings": 0}


def test_the_sample_depends_on_the_captions_alone() -> None:
    rows = [row(f"c{n}") for n in range(300)]
    assert len(sample(rows)) == SAMPLED and sample(rows) == sample(rows[::-1])
    assert [each.clip.clip_id for each in sample(rows)] != sorted(each.clip.clip_id for each in sample(rows))


def test_the_page_marks_tags_and_escapes_everything() -> None:
    text = "<script>alert(1)</script> Calm folky tunes, flutes & drums, no piano, in a groove."
    page = audit_page([row("<c>", text)], 1, TAXONOMY, "bloom")
    assert "<script>alert" not in page and 'data-clip="&lt;c&gt;"' in page
    for mark, words in (("told", "folky"), ("told", "flutes"), ("unfounded", "drums"), ("negated", "piano")):
        assert f'<mark class="{mark}">{words}</mark>' in page
    assert "in a groove." in page, "an ordinary word"
    assert not re.search(r'(?:src|href)="?http', page), "nothing is loaded from elsewhere"


CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")
CLICKS = """<script>
cards.slice(0, 10).forEach((card, at) => card.querySelectorAll("button")[at < 8 ? 0 : 2].click());
document.body.dataset.csv = csv().split("\\r\\n").length;
</script></body>"""


@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium here to open the page in")
def test_the_page_shows_the_interval_of_the_verdicts_entered(tmp_path: Path) -> None:
    page = audit_page([row(f"c{n}") for n in range(12)], 12, TAXONOMY, "bloom")
    path = tmp_path / "audit.html"
    path.write_text(page.replace("</body>", CLICKS), encoding="utf-8")
    command = [str(CHROMIUM), "--headless", "--no-sandbox", f"--user-data-dir={tmp_path / 'profile'}", "--dump-dom"]
    done = subprocess.run([*command, path.as_uri()], capture_output=True, text=True, check=True, timeout=60)
    low, high = wilson(8, 10)
    assert f"80.0 % good (95 % interval {100 * low:.1f} to {100 * high:.1f} %)" in done.stdout
    assert "10 of 12 judged" in done.stdout
    assert 'data-csv="14"' in done.stdout, "a heading, twelve rows, and the end of the last"
