"""The published CNN taggers: mel front end by hand, strict loading, and clear words for wrong files."""

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from components.code import covered
from components.tagging.audio import AudioTagger
from components.tagging.clips import Clip
from components.tagging.cnn import Cnn
from components.tagging.frontend import MelDecibels
from components.tagging.nets import WINDOW_S, build_net
from components.tagging.params import CnnParams
from components.tagging.vocabulary import read_labels
from components.tagging.weights import read_state
from tests.tagging.look_alikes import AUDIO, RATE_HZ, mel_bank, tiny_state, tone, write_wav
from tests.traced import ran

LABELS = ["rock", "piano", "happy", "90s"]


def section(
    folder: Path, architecture: str = "musicnn", weights: str = "net.pth", labels: str = "labels.txt"
) -> CnnParams:
    own = {
        "kind": "cnn",
        "architecture": architecture,
        "weights": f"{folder}/{weights}",
        "labels": f"{folder}/{labels}",
    }
    return CnnParams.model_validate(AUDIO | own)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    torch.save(tiny_state("musicnn"), tmp_path / "net.pth")
    (tmp_path / "labels.txt").write_text("\n".join(LABELS) + "\n")
    return tmp_path


def decibels(sound: np.ndarray) -> np.ndarray:
    """The front end from its definition: mirrored edges, Hann window of 512, step 256, power, triangles, dB."""
    padded = np.pad(sound.astype(np.float64), 256, mode="reflect")
    window = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(512) / 512)
    frames = np.lib.stride_tricks.sliding_window_view(padded, 512)[::256] * window
    power = np.abs(np.fft.rfft(frames, axis=1)) ** 2
    return 10 * np.log10(np.maximum(power @ mel_bank(), 1e-10)).T


def test_the_front_end_gives_the_decibels_of_its_definition() -> None:
    state = tiny_state("fcn")
    ear = MelDecibels(512, 96)
    ear.load_state_dict({name.removeprefix("spec."): v for name, v in state.items() if name.startswith("spec.")})
    sound = tone(440, 1.0) + 0.1 * np.random.default_rng(0).standard_normal(RATE_HZ).astype(np.float32)
    heard = ear(torch.from_numpy(sound)[None])[0].numpy()
    assert heard.shape == (96, 63)
    np.testing.assert_allclose(heard, decibels(sound), atol=2e-4)
    silent = ear(torch.zeros(1, RATE_HZ)).numpy()
    assert np.all(silent == -100)


@pytest.mark.parametrize("architecture", ["fcn", "crnn", "musicnn"])
def test_each_architecture_takes_its_sizes_from_the_weights(architecture: str) -> None:
    net = build_net(architecture, tiny_state(architecture, outputs=5))
    sounds = torch.from_numpy(np.stack([tone(hz, WINDOW_S[architecture]) for hz in (110, 3000)]))
    with torch.inference_mode():
        logits = net(sounds)
    assert logits.shape == (2, 5) and logits.isfinite().all() and not torch.equal(logits[0], logits[1])


def test_safetensors_and_pth_hear_the_same_and_the_digest_follows_the_weights(folder: Path) -> None:
    save_file(tiny_state("musicnn"), folder / "net.safetensors")
    np.save(folder / "labels.npy", np.array(LABELS))
    one, two = Cnn(section(folder)), Cnn(section(folder, weights="net.safetensors", labels="labels.npy"))
    sounds = np.stack([tone(hz, 3.0) for hz in (110, 3000)])
    np.testing.assert_array_equal(one(sounds), two(sounds))
    assert one.labels == two.labels == tuple(LABELS)
    shutil.move(folder / "net.pth", folder / "moved.pth")
    assert Cnn(section(folder, weights="moved.pth")).digest == one.digest
    torch.save(tiny_state("musicnn", seed=1), folder / "net.pth")
    assert Cnn(section(folder)).digest != one.digest


class Harmful:
    """Creates a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, tuple[str, str]]:
        return open, (str(self.path), "w")


def test_a_pickle_with_code_is_refused_and_not_run(folder: Path) -> None:
    torch.save({"dense.bias": Harmful(folder / "ran")}, folder / "net.pth")
    with pytest.raises(
        ValueError, match=r"net\.pth: not a plain state dict .*pickle with code, which is not run"
    ) as told:
        Cnn(section(folder))
    assert "\n" not in str(told.value) and not (folder / "ran").exists()


def test_wrong_files_are_named(folder: Path) -> None:
    with pytest.raises(ValueError, match=r"none\.pth: no such file of weights"):
        Cnn(section(folder, weights="none.pth"))
    with pytest.raises(ValueError, match=r"none\.txt: no such file of labels"):
        Cnn(section(folder, labels="none.txt"))
    with pytest.raises(ValueError, match=r"net\.pth: weights of musicnn; tagging\.architecture is fcn"):
        Cnn(section(folder, "fcn"))
    (folder / "labels.txt").write_text("rock\npiano\nhappy\n")
    with pytest.raises(ValueError, match=r"labels\.txt: 3 labels, but .*net\.pth has 4 outputs"):
        Cnn(section(folder))
    for content in (b"", b"PK not a zip", b"\x80\x02half a pickle"):
        (folder / "bad.pth").write_bytes(content)
        with pytest.raises(ValueError, match=r"bad\.pth: not a plain state dict"):
            read_state(folder / "bad.pth")
        (folder / "bad.safetensors").write_bytes(content)
        with pytest.raises(ValueError, match=r"bad\.safetensors: not a plain state dict"):
            read_state(folder / "bad.safetensors")


def test_weights_that_do_not_fit_are_refused_in_one_line(folder: Path) -> None:
    state = tiny_state("musicnn")
    for changed, message in (
        ({k: v for k, v in state.items() if k != "dense1.bias"}, "do not fit musicnn: .*dense1.bias"),
        (state | {"extra": torch.ones(1)}, "do not fit musicnn: .*extra"),
        (state | {"layer2.conv.weight": torch.zeros(9, 4, 7)}, "do not fit musicnn"),
        (
            state | {"dense2.bias": torch.tensor([0.0, float("nan"), 0, 0])},
            "dense2.bias has values that are not finite",
        ),
        ({k: v for k, v in state.items() if not k.startswith("spec.")}, "without the mel filterbank"),
        ({"some.weight": torch.ones(1)}, "not weights of FCN, CRNN or Musicnn"),
        ([torch.ones(1)], "not a plain state dict; save the model's state_dict"),
    ):
        torch.save(changed, folder / "net.pth")
        with pytest.raises(ValueError, match=message) as told:
            Cnn(section(folder))
        assert "\n" not in str(told.value) and "net.pth" in str(told.value)


def test_label_files(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("rock\n\n  no vocals \n")
    assert read_labels(tmp_path / "a.txt") == ("rock", "no vocals")
    np.save(tmp_path / "b.npy", np.array(["rock", "pop"], dtype=object), allow_pickle=True)
    np.save(tmp_path / "c.npy", np.arange(3))
    (tmp_path / "d.txt").write_text("rock\npop\nrock\n")
    (tmp_path / "e.txt").write_text("\n")
    (tmp_path / "f.txt").write_bytes(b"\xff\xfe\x00")
    for name, message in (
        ("b.npy", "not a list of labels"), ("c.npy", "expected one row of text"), ("d.txt", "stands twice: 'rock'"),
        ("e.txt", "no labels in it"), ("f.txt", "not a list of labels"),
    ):  # fmt: skip
        with pytest.raises(ValueError, match=message):
            read_labels(tmp_path / name)


def test_all_that_listens_is_covered(folder: Path, tmp_path: Path) -> None:
    clip = Clip("c", str(write_wav(tmp_path / "c.wav", tone(440, 4.0))), "k", 0.0, 4.0)
    listed = covered(Cnn, AudioTagger)

    def listen() -> None:
        ((_, heard),) = AudioTagger(Cnn(section(folder)), section(folder)).score([clip])
        assert heard.shape == (4,)

    used = ran(listen, listed)
    assert {"components.tagging.nets:Musicnn", "components.tagging.sound:windows", "components.media:mono"} <= used
    assert used <= set(listed) | {"components.tagging.params:CnnParams"}
