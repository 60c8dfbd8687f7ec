"""The taggers against real references; prints the tables of docs/study-tagging.md.

`python -m benchmarks.tagging_reference [FOLDER]`. The folder has `tagger_weights` (published state
dicts), `audio_real` (recordings) and `mtat_real_predictions` (a real tagger's probabilities and the
human labels); default: `../shared/data`. Predictions: macro ROC-AUC of the MTAT tagger 0.9109, as its
authors report; an orchestra's recording is called classical, with violin and strings.
"""

import sys
import tempfile
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from components.media import mono
from components.tagging.audio import AudioTagger
from components.tagging.calibration import fit_lines, held_out, logits_of
from components.tagging.clips import Clip
from components.tagging.cnn import Cnn
from components.tagging.examples import fold_of
from components.tagging.frontend import RATE_HZ
from components.tagging.params import CnnParams
from components.tagging.scores import areas, calibration_error
from components.tagging.vocabulary import Vocabulary, mapped, read_labels, spoken
from components.tagging.weights import read_state
from components.taxonomy import Taxonomy, read_taxonomy

TAGGERS = ("mtat/fcn", "mtat/musicnn", "jamendo/fcn", "jamendo/crnn", "msd/fcn")
SHORT_S = 8.0  # as long as a clip of the demo


def main() -> None:
    """Print every table."""
    data = Path(sys.argv[1] if len(sys.argv) > 1 else "../shared/data")
    taxonomy = read_taxonomy(Path("components/taxonomy.yaml"))
    recordings = sorted((data / "audio_real" / "librosa").glob("*.ogg"))
    with tempfile.TemporaryDirectory() as scratch:
        labels = label_files(data, Path(scratch))
        print_front_end(data)
        print_vocabularies(labels, taxonomy)
        print_recordings(data, labels, recordings, taxonomy)
        print_short(data, labels, recordings)
        print_areas(data, labels, taxonomy)


def label_files(data: Path, scratch: Path) -> dict[str, Path]:
    """Return the label file of each training set; Jamendo's 50 tags are in the order of the alphabet."""
    tracks = (data / "mtg_jamendo" / "autotagging_top50tags-train.tsv").read_text(encoding="utf-8").splitlines()[1:]
    jamendo = sorted({tag for track in tracks for tag in track.split("\t")[5:]})
    (scratch / "jamendo.txt").write_text("\n".join(jamendo), encoding="utf-8")
    weights = data / "tagger_weights"
    return {
        "mtat": weights / "mtat_tags.npy",
        "jamendo": scratch / "jamendo.txt",
        "msd": weights / "msd_50tagList.txt",
    }


def listener(data: Path, labels: dict[str, Path], name: str, hop_s: float = 0.0) -> tuple[Cnn, CnnParams]:
    """Return a published tagger, and params for windows end to end."""
    trained_on, architecture = name.split("/")
    section = {
        "kind": "cnn", "architecture": architecture, "labels": str(labels[trained_on]),
        "weights": str(data / "tagger_weights" / name / "best_model.pth"), "calibrate": False,
        "thresholds": dict.fromkeys(("genres", "moods", "instruments"), 0.3), "min_examples": 2, "folds": 5,
        "seed": 1, "hop_s": hop_s or (3.0 if architecture == "musicnn" else 29.1), "batch_size": 4,
        "device": "cpu", "threads": 1, "workers": 1,
    }  # fmt: skip
    params = CnnParams.model_validate(section)
    return Cnn(params), params


def htk_bank() -> np.ndarray:
    """HTK's mel triangles from their formula: (257, 96), peaks of 1, 0 to 8,000 Hz."""
    edges = 700 * (10 ** (np.linspace(0, 2595 * np.log10(1 + 8000 / 700), 98) / 2595) - 1)
    bins = np.linspace(0, 8000, 257)[:, None]
    return np.maximum(0, np.minimum((bins - edges[:-2]) / np.diff(edges)[:-1], (edges[2:] - bins) / np.diff(edges)[1:]))


def print_front_end(data: Path) -> None:
    """Compare filterbank, window and decibels with their formulas, and with librosa where it is installed."""
    import torch

    from components.tagging.frontend import MelDecibels

    state = read_state(data / "tagger_weights" / "mtat" / "fcn" / "best_model.pth")
    stored = state["spec.mel_scale.fb"].double().numpy()
    window = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(512) / 512)
    ear = MelDecibels(512, 96)
    ear.load_state_dict({name.removeprefix("spec."): v for name, v in state.items() if name.startswith("spec.")})
    sound = mono(sorted((data / "audio_real" / "librosa").glob("Hungarian*.ogg"))[0], RATE_HZ, 10.0, 15.0)
    frames = np.lib.stride_tricks.sliding_window_view(np.pad(sound.astype(float), 256, mode="reflect"), 512)[::256]
    power = np.abs(np.fft.rfft(frames * window, axis=1)) ** 2
    wanted = 10 * np.log10(np.maximum(power @ stored, 1e-10)).T
    heard = ear(torch.from_numpy(sound)[None])[0].numpy()
    rows = [
        ("mel filterbank, HTK's formula", np.abs(stored - htk_bank()).max()),
        ("Hann window, its formula", np.abs(state["spec.spectrogram.window"].double().numpy() - window).max()),
        ("dB of 5 s of an orchestra, float64 in numpy: 99 % of cells", np.quantile(np.abs(heard - wanted), 0.99)),
        ("the same, all cells", np.abs(heard - wanted).max()),
    ]
    try:
        from librosa import filters
    except ImportError:
        print("(librosa is not installed: its filterbank is not compared)\n")
    else:
        bank = filters.mel(sr=RATE_HZ, n_fft=512, n_mels=96, fmin=0.0, fmax=8000.0, htk=True, norm=None).T
        rows.append(("mel filterbank, librosa (htk=True, norm=None)", np.abs(stored - bank).max()))
    table(("front end against", "largest difference"), [(name, f"{value:.1e}") for name, value in rows])


def print_vocabularies(labels: dict[str, Path], taxonomy: Taxonomy) -> None:
    """Tell what of each vocabulary has a place in the taxonomy."""
    rows = []
    for name, path in labels.items():
        vocabulary = mapped(read_labels(path), taxonomy)
        unmapped = ", ".join(vocabulary.unmapped) or "none"
        rows.append((name, len(vocabulary.labels), len(vocabulary.tags), unmapped))
    table(("trained on", "labels", "tags they become", "labels without a place"), rows)


def print_recordings(data: Path, labels: dict[str, Path], recordings: Sequence[Path], taxonomy: Taxonomy) -> None:
    """Tell the likeliest labels of whole recordings, and the tags that pass 0.30."""
    top: dict[str, list[str]] = {recording.stem: [] for recording in recordings}
    kept: dict[str, str] = {}
    for name in TAGGERS:
        model, params = listener(data, labels, name)
        clips = [Clip(recording.stem, str(recording), "", 0.0, 600.0) for recording in recordings]
        for stem, said in AudioTagger(model, params).score(clips):
            if isinstance(said, Exception):
                raise said
            best = np.argsort(-said)[:4]
            top[stem].append(", ".join(f"{spoken(model.labels[at])} {said[at]:.2f}" for at in best))
            if name == "mtat/musicnn":
                kept[stem] = tags_of(said, mapped(model.labels, taxonomy))
    shown = {stem: " ".join(stem.replace("_", " ").split())[:44] for stem in top}
    table(("recording", *TAGGERS), [(shown[stem], *cells) for stem, cells in top.items()])
    table(("recording", "tags from 0.30, mtat/musicnn"), [(shown[stem], kept[stem]) for stem in top])


def tags_of(said: np.ndarray, vocabulary: Vocabulary) -> str:
    """Return the tags from 0.30 on."""
    found = vocabulary.of_tags(said[None])[0]
    listed = [
        f"{group[:-1]} {name} {p:.2f}" for (group, name), p in zip(vocabulary.tags, found, strict=True) if p >= 0.3
    ]
    return ", ".join(listed) or "none"


def print_short(data: Path, labels: dict[str, Path], recordings: Sequence[Path]) -> None:
    """Compare ways to fill the window of a clip of 8 s: which is nearest to the whole 29.1 s?"""
    rows = []
    for name in ("mtat/fcn", "jamendo/crnn"):
        model, _ = listener(data, labels, name)
        length, short = round(model.window_s * RATE_HZ), round(SHORT_S * RATE_HZ)
        likeness = []
        for sound in (mono(recording, RATE_HZ, 0.0, model.window_s) for recording in recordings):
            if len(sound) == length:
                part = sound[(length - short) // 2 :][:short]
                behind, around = np.zeros((2, length), np.float32)
                behind[:short], around[(length - short) // 2 :][:short] = part, part
                whole, *filled = model(np.stack([sound, np.resize(part, length), behind, around]))
                likeness.append([np.corrcoef(whole, other)[0, 1] for other in filled])
        mean = np.mean(likeness, axis=0)
        rows.append((name, len(likeness), *(f"{value:.3f}" for value in mean)))
    table((f"{SHORT_S:g} s in a window of 29.1 s", "recordings", "repeated", "silence behind", "silence around"), rows)


def print_areas(data: Path, labels: dict[str, Path], taxonomy: Taxonomy) -> None:
    """Compute the metrics of real probabilities against human labels, and calibrate them."""
    truth_labels = read_labels(labels["mtat"])
    rows, groups = [], []
    for trained_on in ("mtat", "jamendo", "msd"):
        folder = data / "mtat_real_predictions" / f"train-{trained_on}-musicnn"
        said, truth = numbers(folder / "est.csv"), numbers(folder / "gt.csv") > 0.5
        if trained_on == "mtat":
            figures = np.mean(areas(truth, said), axis=0)
            rows.append(("mtat, its 50 labels", 50, f"{figures[0]:.4f}", f"{figures[1]:.4f}"))
        theirs, ours = mapped(truth_labels, taxonomy), mapped(read_labels(labels[trained_on]), taxonomy)
        shared = [tag for tag in ours.tags if tag in theirs.tags]
        y = theirs.of_tags(truth.astype(float))[:, [theirs.tags.index(tag) for tag in shared]] > 0.5
        p = ours.of_tags(said)[:, [ours.tags.index(tag) for tag in shared]]
        figures = np.mean(areas(y, p), axis=0)
        rows.append((f"{trained_on}, as tags of the taxonomy", len(shared), f"{figures[0]:.4f}", f"{figures[1]:.4f}"))
        apart = held_out(logits_of(p), y, shared, fold_of([str(n) for n in range(len(y))], 5, 1))
        lines = fit_lines(logits_of(p), y, shared)
        for group, (slope, offset) in lines.items():
            inside = [at for at, tag in enumerate(shared) if tag[0] == group]
            before, after = (calibration_error(y[:, inside], said[:, inside]) for said in (p, apart))
            groups.append(
                (trained_on, group, len(inside), f"{slope:.2f}, {offset:.2f}", f"{before:.4f}", f"{after:.4f}")
            )
    table(("trained on", "columns", "macro ROC-AUC", "macro PR-AUC"), rows)
    table(("trained on", "group", "tags", "slope, offset", "calibration error before", "after (held out)"), groups)


def numbers(path: Path) -> np.ndarray:
    """Return the columns after the clip's name."""
    lines = path.read_text(encoding="utf-8").splitlines()
    return np.array([[float(cell) for cell in line.split(",")[-50:]] for line in lines])


def table(head: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    """Print a Markdown table."""
    print("| " + " | ".join(head) + " |\n|" + "---|" * len(head))
    for row in rows:
        print("| " + " | ".join(str(cell).replace("|", "/") for cell in row) + " |")
    print(flush=True)


if __name__ == "__main__":
    main()
