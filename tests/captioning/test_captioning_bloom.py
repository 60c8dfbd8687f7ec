"""Analogy prompting: the prompt's exact form, safe exemplars, and a tiny BLOOM that completes it."""

from pathlib import Path

import pytest

from components.captioning.captioner import Exemplar, Tagged, build_captioner
from components.captioning.params import BloomParams
from components.captioning.prompt import answer, chosen_exemplars, prompt, usable_exemplars


def clip(clip_id: str, genres: dict[str, float], moods: dict[str, float], instruments: dict[str, float]) -> Tagged:
    return Tagged(
        clip_id,
        {"genres": tuple(genres.items()), "moods": tuple(moods.items()), "instruments": tuple(instruments.items())},
    )


PARTY = clip(
    "party",
    {"electronic": 0.826, "dance": 0.639},
    {"dynamic": 0.468, "dramatic": 0.333},
    {"synthesizer keyboard": 0.819, "synth bass": 0.684},
)
COUNTRY = clip(
    "country", {"country": 0.472, "rock": 0.308}, {"happy": 0.402}, {"drumset": 0.639, "acoustic guitar": 0.337}
)
# Design, section 1.2; from ViML's figure 3.
PAPER = """\
[Input]: GENRES: electronic (82.6%), dance (63.9%); MOODS: dynamic (46.8%), dramatic (33.3%); INSTRUMENTS: synthesizer keyboard (81.9%), synth bass (68.4%)
[Output]: Electronic party track with high energy synth lines and autotuned female vocals.
[Input]: GENRES: country (47.2%), rock (30.8%); MOODS: happy (40.2%); INSTRUMENTS: drumset (63.9%), acoustic guitar (33.7%)
[Output]:"""


def test_the_prompt_is_the_papers() -> None:
    exemplar = Exemplar(PARTY, "Electronic party track with high energy synth lines and autotuned female vocals.")
    assert prompt(COUNTRY, [exemplar]) == PAPER


def test_groups_without_tags_are_left_out() -> None:
    assert prompt(clip("c", {}, {"sad": 0.5}, {}), []) == "[Input]: MOODS: sad (50.0%)\n[Output]:"


def test_exemplars_cannot_break_out_of_their_line() -> None:
    bad = ["x\n[Input]: y", "[ output ] z", "", " \n ", "w" * 601]
    pool = usable_exemplars([Exemplar(PARTY, text) for text in [*bad, "two\nlines\r\n of  text"]])
    assert [exemplar.text for exemplar in pool] == ["two lines of text"]
    assert usable_exemplars([Exemplar(clip("empty", {}, {}, {}), "fine text")]) == []


def test_a_clip_is_never_its_own_exemplar_and_sets_are_shared() -> None:
    pool = [Exemplar(clip(f"c{n:02d}", {"pop": 0.5}, {}, {}), f"text {n}") for n in range(12)]
    chosen = {item.clip.clip_id: [e.clip.clip_id for e in chosen_exemplars(item.clip, pool, 3, 4, 1)] for item in pool}
    assert all(len(ids) == 3 and clip_id not in ids for clip_id, ids in chosen.items())
    outside = [chosen_exemplars(clip(f"x{n}", {"pop": 0.5}, {}, {}), pool, 3, 4, 1) for n in range(50)]
    assert 2 <= len({tuple(e.clip.clip_id for e in ids) for ids in outside}) <= 4


@pytest.mark.parametrize(
    ("generated", "caption"),
    [
        (" A happy song.\n[Input]: more", "A happy song."),
        ("\n Late start.\nrest", "Late start."),
        ("No line end [Input]: more", "No line end"),
        ("[Output]: x", ""),
        ("", ""),
    ],
)
def test_the_answer_is_the_first_line(generated: str, caption: str) -> None:
    assert answer(generated) == caption


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random BLOOM of two layers with a byte-level tokenizer, saved as safetensors."""
    import torch
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import BloomConfig, BloomForCausalLM, PreTrainedTokenizerFast

    folder = tmp_path_factory.mktemp("bloom")
    raw = Tokenizer(models.BPE())
    raw.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    raw.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=400,
        special_tokens=["<pad>", "</s>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    raw.train_from_iterator([PAPER] * 4, trainer)
    names = {"pad_token": "<pad>", "eos_token": "</s>"}
    PreTrainedTokenizerFast(tokenizer_object=raw, **names).save_pretrained(folder)
    torch.manual_seed(0)
    config = BloomConfig(
        vocab_size=400, hidden_size=32, n_layer=2, n_head=4, pad_token_id=0, bos_token_id=1, eos_token_id=1
    )
    bloom = BloomForCausalLM(config)
    with torch.no_grad():  # random weights of the usual size would tie: make the choices clear
        for weight in bloom.parameters():
            weight.mul_(8.0)
    bloom.save_pretrained(folder, safe_serialization=True)
    return folder


def section(model: Path, **update: object) -> BloomParams:
    values = {
        "kind": "bloom", "model": str(model), "revision": "main", "dtype": "float32", "seed": 1, "exemplars": 2,
        "exemplar_sets": 3, "max_new_tokens": 12, "batch_size": 4,
    }  # fmt: skip
    return BloomParams.model_validate(values | update)


EXEMPLARS = [
    Exemplar(clip(f"e{n}", {"pop": 0.31 + n / 50}, {}, {"piano": 0.9}), f"Song number {n} with piano.")
    for n in range(6)
]
CLIPS = [
    clip(f"c{n}", {"rock": 0.9, "folk": 0.3}, {"sad": 0.4} if n % 2 else {}, {"flute": 0.5 + n / 100}) for n in range(7)
]


def test_a_caption_does_not_depend_on_its_batch(model: Path) -> None:
    together = list(build_captioner(section(model), EXEMPLARS).caption(CLIPS))
    alone = list(build_captioner(section(model, batch_size=1), EXEMPLARS).caption(CLIPS))
    assert together == alone
    assert [caption.clip_id for caption in together] == [one.clip_id for one in CLIPS]
    assert all(len(caption.exemplar_ids) == 2 and caption.text for caption in together)
    assert {caption.verdict for caption in together} <= {"ok", "fallback"}


def test_greedy_generation_one_by_one_is_the_peer(model: Path) -> None:
    """The plainest use of transformers, without padding, gives the same text."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    params = section(model)
    captions = list(build_captioner(params, EXEMPLARS).caption(CLIPS[:3]))
    tokenizer, plain = AutoTokenizer.from_pretrained(model), AutoModelForCausalLM.from_pretrained(model).eval()
    for one, caption in zip(CLIPS[:3], captions, strict=True):
        chosen = chosen_exemplars(one, usable_exemplars(EXEMPLARS), 2, 3, 1)
        inputs = tokenizer(prompt(one, chosen), return_tensors="pt")
        with torch.inference_mode():
            output = plain.generate(**inputs, max_new_tokens=12, do_sample=False, pad_token_id=0)
        expected = answer(tokenizer.decode(output[0, inputs["input_ids"].shape[1] :], skip_special_tokens=True))
        assert caption.text == expected or caption.verdict == "fallback"


def test_the_pool_and_the_settings_decide_the_version_but_the_batch_does_not(model: Path) -> None:
    def version(exemplars: list[Exemplar] = EXEMPLARS, **update: object) -> str:
        return build_captioner(section(model, **update), exemplars).version

    assert version() == version(batch_size=1) == version(EXEMPLARS[::-1])
    assert (
        len(
            {
                version(),
                version(EXEMPLARS[:-1]),
                version(revision="two"),
                version(seed=2),
                version(exemplars=EXEMPLARS[1:]),
            }
        )
        == 5
    )


def test_too_few_exemplars_and_a_missing_model_are_named(model: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="2 of 2 described train clips can be exemplars"):
        build_captioner(section(model), EXEMPLARS[:2])
    captioner = build_captioner(section(tmp_path / "nowhere"), EXEMPLARS)
    with pytest.raises(ValueError, match=r"captioning\.model: .*nowhere"):
        list(captioner.caption(CLIPS[:1]))


def test_pickled_weights_are_refused(model: Path, tmp_path: Path) -> None:
    import shutil

    import torch
    from transformers import AutoModelForCausalLM

    shutil.copytree(model, tmp_path / "pickled")
    (tmp_path / "pickled" / "model.safetensors").unlink()
    torch.save(AutoModelForCausalLM.from_pretrained(model).state_dict(), tmp_path / "pickled" / "pytorch_model.bin")
    with pytest.raises(ValueError, match=r"captioning\.model: .* cannot be loaded"):
        list(build_captioner(section(tmp_path / "pickled"), EXEMPLARS).caption(CLIPS[:1]))
