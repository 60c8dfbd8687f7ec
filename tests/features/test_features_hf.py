"""Kind hf: each family of models on tiny ones, from real media to a store; increments; what is refused."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from components.features.compute import update_features
from components.features.extractor import build_extractor
from components.features.hf.extractor import Hf
from components.features.params import HfParams
from components.features.source import Source
from components.modalities import Modality
from components.store import FeatureStore
from tests.features import look_alikes

Models = Callable[..., Path]


@pytest.fixture(scope="session")
def models(tmp_path_factory: pytest.TempPathFactory) -> Models:
    """Return a function that makes a look-alike once: ``models("siglip", True)``."""
    made: dict[tuple[Any, ...], Path] = {}

    def make(name: str, *how: Any) -> Path:
        if (name, *how) not in made:
            folder = tmp_path_factory.mktemp("models") / "-".join(map(str, (name, *how)))
            made[name, *how] = getattr(look_alikes, name)(folder, *how)
        return made[name, *how]

    return make


def of_clips(paths: list[Path], end_s: float = 2.0) -> list[Source]:
    return [Source(f"c{at:02d}", f"key {path.name}", uri=str(path), end_s=end_s) for at, path in enumerate(paths)]


def of_texts(*texts: str) -> list[Source]:
    return [Source(f"t{at:02d}", f"key {text}", text=text) for at, text in enumerate(texts)]


def extracted(params: HfParams, modality: Modality, sources: list[Source]) -> dict[str, Any]:
    with look_alikes.without_timm():
        return dict(build_extractor(params, modality).extract(sources))


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


VIDEO = [("clip",), ("siglip",), ("siglip", True), ("perception", "video"), ("perception", "joint")]
MUSIC = [("clap",), ("clap", "fusion"), ("ast",), ("wave",), ("perception", "audio"), ("perception", "joint")]
TEXT = [
    ("clip",), ("siglip",), ("siglip", True), ("clap",), ("sentence",), ("perception", "audio"),
    ("perception", "video"), ("perception", "joint"),
]  # fmt: skip


@pytest.mark.parametrize("model", VIDEO)
def test_pictures_have_an_embedding_per_segment(models: Models, clips: list[Path], model: tuple[Any, ...]) -> None:
    found = extracted(look_alikes.section(video__model=models(*model)), "video", of_clips(clips))
    dims = {"clip": 12}.get(model[0], 16)
    assert all(features.shape == (2, dims) and np.isfinite(features).all() for features in found.values())
    assert len({features.tobytes() for features in found.values()}) == len(clips), "clips differ"


@pytest.mark.parametrize("model", MUSIC)
def test_sound_has_an_embedding_per_segment(models: Models, clips: list[Path], model: tuple[Any, ...]) -> None:
    found = extracted(look_alikes.section(music__model=models(*model)), "music", of_clips(clips))
    dims = {"clap": 10}.get(model[0], 16)
    assert all(features.shape == (2, dims) and np.isfinite(features).all() for features in found.values())
    assert len({features.tobytes() for features in found.values()}) == len(clips), "clips differ"


@pytest.mark.parametrize("output", ["pooled", "tokens"])
@pytest.mark.parametrize("model", TEXT)
def test_a_text_has_one_embedding_or_one_per_token(models: Models, model: tuple[Any, ...], output: str) -> None:
    params = look_alikes.section(text__model=models(*model), text__output=output)
    found = extracted(params, "text", of_texts("calm piano", "dark heavy metal and loud drums with no vocals"))
    dims = {"clip": 12, "clap": 10}.get(model[0], 16) if output == "pooled" else 16
    rows = (1, 1) if output == "pooled" else (4, 11)  # words, and the marks of start and end
    if model == ("siglip", True) and output == "tokens":
        rows = (7, 13)  # the library's tokenizer of SigLIP 2 knows no spaces here
    assert [features.shape for features in found.values()] == [(count, dims) for count in rows]
    assert all(np.isfinite(features).all() for features in found.values())


@pytest.mark.parametrize("which", ["audio", "video", "joint"])
def test_parts_of_pe_av_give_what_the_whole_model_gives(models: Models, clips: list[Path], which: str) -> None:
    import transformers

    folder = models("perception", which)
    told: dict[str, torch.Tensor] = {}
    params = look_alikes.section(**{f"{modality}__model": folder for modality in ("video", "music", "text")})
    parts = {"audio": ["music", "text"], "video": ["video", "text"], "joint": ["music", "video", "text"]}[which]
    mine, items = {}, {}
    with look_alikes.without_timm():
        model = transformers.AutoModel.from_pretrained(folder).eval()
        for modality in parts:
            extractor = Hf(params, modality)
            source = of_texts("calm piano")[0] if modality == "text" else of_clips(clips[:1], 1.0)[0]
            items[modality] = torch.from_numpy(extractor.encoder.reader(source))
            ((_, mine[modality]),) = extractor.extract([source])
            if modality == "video":
                encoder = extractor.encoder
                pixels = (items["video"].float() * encoder._factor - encoder._offset).movedim(-1, -3)
                told["pixel_values_videos"] = pixels
    told |= {"input_ids": items["text"][:, 0], "attention_mask": items["text"][:, 1]}
    if "music" in parts:
        told["input_values"] = items["music"][:, None]
    with torch.inference_mode():
        output = model(**told)
    names = {"music": "audio_embeds", "video": "video_embeds"}
    names["text"] = "text_video_embeds" if which == "video" else "text_audio_embeds"
    for modality in parts:
        np.testing.assert_allclose(mine[modality], output[names[modality]].numpy(), atol=1e-5)


@pytest.mark.parametrize(("pooling", "model"), [("mean", "ast"), ("layers", "ast"), ("layers", "wave")])
def test_states_of_sound_are_averaged_as_asked(models: Models, clips: list[Path], pooling: str, model: str) -> None:
    import transformers

    folder = models(model)
    params = look_alikes.section(music__model=folder, music__pooling=pooling, segment_s=2.0 if model == "wave" else 1.0)
    extractor = Hf(params, "music")
    sound = extractor.encoder.reader(of_clips(clips)[0])
    ((_, found),) = extractor.extract(of_clips(clips)[:1])
    prepare = transformers.AutoFeatureExtractor.from_pretrained(folder)
    network = transformers.AutoModel.from_pretrained(folder).eval()
    with torch.inference_mode():
        prepared = prepare(list(sound), sampling_rate=16_000, return_tensors="pt")
        output = network(**prepared, output_hidden_states=True)
    states = output.hidden_states if pooling == "layers" else [output.last_hidden_state]
    means = [layer[:, 2 if model == "ast" else 0 :].mean(dim=1).numpy() for layer in states]
    np.testing.assert_allclose(found, np.mean(means, axis=0), atol=1e-4)


@pytest.mark.parametrize("modality", ["video", "music"])
def test_increments_give_the_bytes_of_a_run_from_scratch(
    models: Models, clips: list[Path], tmp_path: Path, modality: Modality
) -> None:
    many = of_clips(clips * 2)
    params = look_alikes.section(video__model=models("clip"), music__model=models("clap"), batch_size=5)
    extractor = build_extractor(params, modality)
    assert update_features(many, extractor, tmp_path / "scratch", 16).computed == 12
    for part in (many[9:], many[5:], many):  # each clip elsewhere in its batch than from scratch
        update_features(part, extractor, tmp_path / "grown", 16)
    assert contents(tmp_path / "scratch") == contents(tmp_path / "grown")
    assert update_features(many, extractor, tmp_path / "grown", 16).kept == 12


def test_processes_read_what_one_reads(
    models: Models, clips: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("components.features.hf.read._FEW", 4)  # even these are worth processes
    for workers in (1, 2):
        params = look_alikes.section(video__model=models("clip"), workers=workers)
        update_features(of_clips(clips), build_extractor(params, "video"), tmp_path / str(workers), 16)
    assert contents(tmp_path / "1") == contents(tmp_path / "2")


def test_texts_of_any_lengths_grow_to_the_same_bytes(models: Models, tmp_path: Path) -> None:
    words = look_alikes.WORDS
    texts = [" ".join(words[at % 5 : at % 5 + 1 + at]) for at in range(13)]
    params = look_alikes.section(text__model=models("sentence"))
    for folder, runs in (("scratch", [texts]), ("grown", [texts[4:], texts])):
        for some in runs:
            sources = [Source(text, text, text=text) for text in some]
            update_features(sources, build_extractor(params, "text"), tmp_path / folder, 16)
    assert contents(tmp_path / "scratch") == contents(tmp_path / "grown")


def test_the_weights_are_a_part_of_the_spec_and_the_place_is_not(models: Models, tmp_path: Path) -> None:
    def spec(folder: Path, **changed: Any) -> dict[str, Any]:
        return build_extractor(look_alikes.section(video__model=folder, **changed), "video").spec()

    model = models("clip")
    moved = look_alikes.edited(model, tmp_path / "elsewhere" / model.name)
    other = look_alikes.clip(tmp_path / "other" / model.name, seed=1)
    assert spec(model) == spec(moved) == spec(model, workers=3, batch_size=64, shard_rows=4, device="auto")
    assert spec(model)["dims"] == 12 and spec(model)["max_segments"] == 4
    different = [spec(other), spec(model, video__revision="abc"), spec(model, segment_s=2.0)]
    different += [spec(model, video__frames_per_s=1.0), spec(model, dtype="bfloat16")]
    assert all(one != spec(model) for one in different)


def test_changed_weights_compute_all_again_and_the_same_keep_the_rows(
    models: Models, clips: list[Path], tmp_path: Path
) -> None:
    def run(folder: Path) -> Any:
        params = look_alikes.section(video__model=folder)
        return update_features(of_clips(clips), build_extractor(params, "video"), tmp_path / "store", 16)

    assert run(models("clip")).computed == 6
    assert run(look_alikes.edited(models("clip"), tmp_path / "moved" / "clip")).kept == 6
    assert run(look_alikes.clip(tmp_path / "other" / "clip", seed=1)).computed == 6


def test_one_bad_file_does_not_stop_the_others(
    models: Models, clips: list[Path], write_media: Callable[..., Path], tmp_path: Path
) -> None:
    silent = write_media("no sound.mp4", np.zeros((10, 48, 64, 3), np.uint8), None)
    (tmp_path / "empty.mp4").touch()
    sources = of_clips([clips[0], silent, tmp_path / "empty.mp4", tmp_path / "gone.mp4", clips[1]])
    for modality, reasons in (
        ("music", ["no_audio", "empty_file", "unreadable"]),
        ("video", ["empty_file", "unreadable"]),
    ):
        params = look_alikes.section(**{f"{modality}__model": models("clip" if modality == "video" else "clap")})
        report = update_features(sources, build_extractor(params, modality), tmp_path / modality, 16)
        assert [reason for _, reason, _ in report.refused] == reasons
        assert report.rows == 5 - len(reasons)


def test_features_that_say_nothing_are_quarantined_by_row(models: Models, clips: list[Path], tmp_path: Path) -> None:
    """A model may fail on one clip alone: no number, or the same one all over."""

    class Odd:
        def __init__(self) -> None:
            self._inner = Hf(look_alikes.section(video__model=models("clip")), "video")

        def spec(self) -> dict[str, Any]:
            return self._inner.spec()

        def extract(self, sources: list[Source]) -> Any:
            for clip_id, features in self._inner.extract(sources):
                wrong = {"c01": np.nan, "c02": np.inf, "c03": 0.25, "c04": 1e6}.get(clip_id)
                yield clip_id, features if wrong is None else np.full_like(features, wrong)

    report = update_features(of_clips(clips), Odd(), tmp_path / "store", 16)
    expected = [("c01", "not_finite"), ("c02", "not_finite"), ("c03", "constant"), ("c04", "constant")]
    assert [(clip_id, reason) for clip_id, reason, _ in report.refused] == expected
    assert FeatureStore.open(tmp_path / "store").clip_ids == ["c00", "c05"]


def test_a_model_is_read_only_where_something_is_to_be_embedded(models: Models, tmp_path: Path) -> None:
    folder = look_alikes.edited(models("sentence"), tmp_path / "damaged")
    (folder / "model.safetensors").write_bytes(b"damaged")
    assert not isinstance(extracted(look_alikes.section(text__model=folder), "text", of_texts("?!"))["t00"], np.ndarray)
    with pytest.raises(ValueError, match="its model cannot be used"):
        extracted(look_alikes.section(text__model=folder), "text", of_texts("calm piano"))


def test_too_large_a_batch_names_the_key(models: Models, monkeypatch: pytest.MonkeyPatch) -> None:
    extractor = Hf(look_alikes.section(text__model=models("sentence")), "text")

    def full(*_: Any) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(extractor.encoder, "load", lambda *_: 0)
    monkeypatch.setattr(type(extractor.encoder), "__call__", full)
    with pytest.raises(ValueError, match=r"features\.batch_size: not enough memory for .* with 4 at once; lower it"):
        list(extractor.extract(of_texts("calm piano")))


def test_a_text_without_words_is_quarantined(models: Models) -> None:
    found = extracted(look_alikes.section(text__model=models("sentence")), "text", of_texts("?!", "calm piano"))
    assert getattr(found["t00"], "reason", None) == "no_words" and found["t01"].shape == (1, 16)


def test_a_clip_shorter_than_a_segment_is_one_segment(models: Models, clips: list[Path]) -> None:
    params = look_alikes.section(music__model=models("clap"), video__model=models("clip"))
    for modality in ("music", "video"):
        found = extracted(params, modality, of_clips(clips[:1], 0.6))
        assert found["c00"].shape[0] == 1 and np.isfinite(found["c00"]).all()


def test_segments_are_as_many_and_where_the_section_says(models: Models, clips: list[Path]) -> None:
    whole = extracted(look_alikes.section(music__model=models("wave")), "music", of_clips(clips[:1]))["c00"]
    fewer = look_alikes.section(music__model=models("wave"), max_segments=1)
    np.testing.assert_array_equal(extracted(fewer, "music", of_clips(clips[:1]))["c00"], whole[:1])


@pytest.mark.parametrize("modality", ["video", "music", "text"])
def test_bfloat16_gives_nearly_the_same(models: Models, clips: list[Path], modality: Modality) -> None:
    folder = models({"video": "clip", "music": "ast", "text": "sentence"}[modality])
    sources = of_texts("calm piano and drums") if modality == "text" else of_clips(clips[:1])
    exact, rough = (
        next(
            iter(
                extracted(
                    look_alikes.section(**{f"{modality}__model": folder}, dtype=dtype), modality, sources
                ).values()
            )
        )
        for dtype in ("auto", "bfloat16")
    )
    assert rough.dtype == np.float32 and not np.array_equal(exact, rough)
    assert (exact * rough).sum() / np.linalg.norm(exact) / np.linalg.norm(rough) > 0.999
