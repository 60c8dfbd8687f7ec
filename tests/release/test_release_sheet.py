"""A version's page in MLflow: what it reaches and what was decided first, digests last; its run says the same."""

from flows.registry.tracking import MODEL
from flows.release.actions import approve
from flows.release.mirror import NOTE_TAG, mirror

from .conftest import Shop

REACHED = {
    "track.video_to_music.video.R10": 0.478, "track.video_to_music.video.R10.low": 0.419,
    "track.video_to_music.video.R10.high": 0.535, "track.video_to_music.video-and-text.R10": 0.7,
    "track.video_to_music.video-and-text.R10.low": 0.646, "track.video_to_music.video-and-text.R10.high": 0.75,
    "pool.queries": 270, "pool.size": 270, "pool.chance.R10": 10 / 270,
}  # fmt: skip
GAINED = {"gate/video-and-text.value": 0.063, "gate/video-and-text.low": -0.02, "gate/video-and-text.high": 0.107}


def show(shop: Shop, version: int, figures: dict[str, float]) -> list[str]:
    """Log figures to a version's run, let it be gated and signed, and return the paragraphs of its page."""
    (release,) = [one for one in shop.releases() if one.version == version]
    for name, value in figures.items():
        shop.client.log_metric(release.run_id, name, value)
    shop.gate(version)
    approve(shop.platform, version, "Ada", "listened to it")
    page = shop.client.get_model_version(MODEL, str(version)).description
    assert shop.client.get_run(release.run_id).data.tags[NOTE_TAG] == page
    return str(page).replace("\N{NO-BREAK SPACE}", "").split("\n\n")


def test_what_it_reaches_and_the_difference_come_first_and_the_digests_last(two: Shop) -> None:
    state, table, asked, signed, link, digests = show(two, 2, REACHED | GAINED)
    assert state.startswith("**Approved** since ") and state.endswith("listened to it")
    assert table.splitlines() == [
        "| query | R@10 | interval | points more than version 1 | interval |",
        "|---|---:|---:|---:|---:|",
        "| video | **0.478** | 0.419 to 0.535 |  |  |",
        "| video+text | **0.700** | 0.646 to 0.750 | +6.3 | -2.0 to +10.7 |",
    ]
    assert asked == "Video to music, 270 queries in a pool of 270; chance R@10 0.037."
    assert signed.startswith("Approved by **Ada**")
    assert link.startswith("[Gate report](#/experiments/") and link.endswith("): passed, against champion version 1.")
    (release,) = [one for one in two.releases() if one.version == 2]
    for digest in (release.digest, release.model, release.index, "c0ffee", str(release.evidence)):
        assert f"`{digest}`" in digests


def test_a_version_without_figures_or_without_its_run_has_a_page_too(shop: Shop) -> None:
    shop.register()
    shop.register()
    state, signed, *_ = show(shop, 1, {})
    assert state.startswith("**Approved**") and signed.startswith("Approved by")
    _, table, *_ = show(shop, 2, REACHED | {f"{name}": value for name, value in GAINED.items() if "low" not in name})
    assert "| query | R@10 | interval | points more than CCA | interval |" in table and "| +6.3 |  |" in table

    (release,) = [one for one in shop.releases() if one.version == 1]
    shop.client.delete_run(release.run_id)
    shop.gate(1)
    mirror(shop.platform)
    assert shop.client.get_model_version(MODEL, "1").description.startswith("**Passed**")


def test_an_interval_of_too_few_artists_is_said_in_words(two: Shop) -> None:
    ends = {name: float({"low": -1, "high": 1}.get(name.rpartition(".")[2], value)) for name, value in GAINED.items()}
    _, table, *_ = show(two, 2, REACHED | ends)
    assert table.splitlines()[-1].endswith("| none: too few artists |")
