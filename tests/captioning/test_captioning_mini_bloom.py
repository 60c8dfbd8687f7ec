"""Mini-BLOOM: its grammar tells the truth, its training pass is BLOOM's, and it really completes analogies."""

import random
from collections.abc import Sequence
from pathlib import Path

import pytest

from components.captioning.bloom import LocalModel
from components.captioning.captioner import Exemplar, Tagged
from components.captioning.completion import Request
from components.captioning.mini_bloom.documents import document, some_clip, some_style
from components.captioning.mini_bloom.frames import WRITTEN, filled, made_up
from components.captioning.params import BloomParams, QualityParams
from components.captioning.prompt import answer, prefix_of, suffix_of
from components.captioning.quality import judge
from components.modalities import TAG_GROUPS
from components.taxonomy import Taxonomy, read_taxonomy

ROOT = Path(__file__).parents[2]
WEIGHTS = ROOT / "components" / "captioning" / "mini_bloom" / "weights"
LIMITS = QualityParams(
    min_recall=0.6, max_hallucinated=0, leaked_words=8, leaked_share=0.8, min_words=1, max_words=60, near_duplicate=0.8,
    max_cluster=0.5, least_yield=0.9,
)  # fmt: skip
# Forms that training has not seen: other words, other marks, other orders.
UNSEEN = (
    "Heard in the park: {I} // {M} // {G}",
    "someone plays {G} for dancing teachers, {M} enough, thanks to {I}",
    "{I} meet {G} at midnight and the result is {M}!",
    "we danced to {G} while {I} kept it {M}",
    "A {M} evening of {G} for {I}",
    "{G} with plenty of {I}, rather {M}",
    "the band plays {M} {G} on {I}",
    "My favourite: {M} {G}, {I}.",
    "{I} telling a {M} story in {G}",
    "From the cellar comes {G}, {M} and full of {I}",
    "{G} night, {M} crowd, {I} on stage",
    "Imagine {I} in a {M} {G} club",
)


@pytest.fixture(scope="module")
def taxonomy() -> Taxonomy:
    return read_taxonomy(ROOT / "components" / "taxonomy.yaml")


def clip(clip_id: str, genre: str, mood: str, *instruments: str) -> Tagged:
    played = tuple((name, 0.9 - 0.1 * at) for at, name in enumerate(instruments))
    return Tagged(clip_id, {"genres": ((genre, 0.82),), "moods": ((mood, 0.61),), "instruments": played})


def test_frames_leave_absent_groups_away_and_mind_their_articles() -> None:
    frame = "[a_ {M} ][{G} ]piece[ with {I}]"
    assert filled(frame, {"M": "eerie", "G": "folk", "I": "harp"}) == "an eerie folk piece with harp"
    assert filled(frame, {"G": "folk"}) == "folk piece"
    assert filled("[{G}, ][{M}, ][{I}]", {"M": "sad"}) == "sad"


def test_every_frame_tells_every_group_it_is_given() -> None:
    chance = random.Random(3)
    for frame in [*WRITTEN, *(made_up(chance) for _ in range(300))]:
        text = filled(frame, {"G": "XX", "M": "YY", "I": "ZZ"})
        assert all(word in text for word in ("XX", "YY", "ZZ")) and "{" not in text and "[" not in text


def test_what_the_model_learns_is_true(taxonomy: Taxonomy) -> None:
    """Learnt answers name the tags; a part that holds two groups goes where one of them has none."""
    chance, judged = random.Random(4), []
    for _ in range(200):
        style, one = some_style(chance, 0.5), some_clip(chance, taxonomy)
        said = {group: [name for name, _ in one.tags[group]] for group in TAG_GROUPS}
        judged.append(judge(style.sentence(said), "stop", one, (), taxonomy, LIMITS))
    assert sum(judgement.recall for judgement in judged) / len(judged) > 0.98
    pieces = [document(chance, taxonomy, 3, 0.5) for _ in range(100)]
    assert all(made[-1].learnt and not made[1].learnt for made in pieces)
    assert 0.4 < sum(piece.learnt for made in pieces for piece in made[3::2]) / 300 < 0.95


def test_the_training_pass_is_blooms_own() -> None:
    import torch
    from transformers import BloomConfig, BloomForCausalLM

    from components.captioning.mini_bloom.forward import hidden_states

    torch.manual_seed(0)
    model = BloomForCausalLM(BloomConfig(vocab_size=50, hidden_size=24, n_layer=2, n_head=3, pad_token_id=3))
    tokens = torch.tensor([[5, 6, 7, 8, 9], [10, 11, 12, 3, 3]])
    real = tokens != 3
    ours, theirs = model.lm_head(hidden_states(model, tokens)), model(tokens, attention_mask=real.long()).logits
    torch.testing.assert_close(ours[real], theirs[real], atol=1e-5, rtol=1e-5)
    gradients = []
    for logits in (ours, theirs):
        model.zero_grad()
        logits[real].logsumexp(-1).sum().backward()
        gradients.append(model.transformer.h[0].self_attention.query_key_value.weight.grad.clone())
    torch.testing.assert_close(*gradients, atol=1e-5, rtol=1e-4)


def test_a_few_steps_of_training_write_a_model_that_loads(tmp_path: Path, taxonomy: Taxonomy) -> None:
    from components.captioning.mini_bloom import train

    phase = train.Phase(steps=2, rate=1e-3, made_up=0.5, easy=1.0, tolerant=1.0)
    train.train(tmp_path / "model", taxonomy, [phase], threads=1)
    before = (tmp_path / "model" / "model.safetensors").read_bytes()
    train.train(tmp_path / "model", taxonomy, [phase], threads=1)
    assert (tmp_path / "model" / "model.safetensors").read_bytes() == before, "the phase is done already"
    train.train(tmp_path / "model", taxonomy, [phase, phase], threads=1)
    assert (tmp_path / "model" / "model.safetensors").read_bytes() != before
    assert {path.name for path in (tmp_path / "model").iterdir()} >= {
        "model.safetensors",
        "tokenizer.json",
        "training.json",
    }
    (made,) = completions(
        tmp_path / "model", [Request("c", 0, "", "[Input]: MOODS: sad (50.0%)\n[Output]:", 0.0, 1.0, 1, 4)]
    )
    assert made.finish in ("stop", "length")


def completions(folder: Path, requests: Sequence[Request]):  # type: ignore[no-untyped-def]
    params = BloomParams.model_validate({
        "kind": "bloom", "model": str(folder), "revision": "main", "dtype": "float32", "quantisation": "none",
        "device_map": "none", "batch_size": 16, "seed": 1, "attempts": 1, "otherwise": "quarantine",
        "prompt": {"exemplars": 3, "selection": {"kind": "nearest"}, "max_tags": 4, "token_budget": 2048},
        "decoding": {"temperature": 0.0, "retry_temperature": 0.7, "top_p": 0.95, "max_new_tokens": 64},
        "quality": LIMITS.model_dump(),
    })  # fmt: skip
    return list(LocalModel(params).complete(requests))


def test_the_weights_are_small_and_plain() -> None:
    files = {path.name: path.stat().st_size for path in WEIGHTS.iterdir()}
    assert sum(files.values()) <= 8 * 2**20 and "model.safetensors" in files
    assert not [name for name in files if name.endswith((".bin", ".pt", ".pkl", ".py"))]


def test_it_completes_analogies_in_forms_it_has_never_seen(taxonomy: Taxonomy) -> None:
    """Exemplars in an unseen form: the answer has that form, and names the new clip's tags."""
    shown = [
        (clip("a", "jazz", "calm", "piano", "flute"), {"G": "jazz", "M": "calm", "I": "piano and flute"}),
        (clip("b", "techno", "dark", "synthesizer"), {"G": "techno", "M": "dark", "I": "synthesizer"}),
        (clip("c", "folk", "happy", "banjo", "violin"), {"G": "folk", "M": "happy", "I": "banjo and violin"}),
    ]
    asked = [
        clip("x", "rock", "sad", "organ", "trumpet"), clip("y", "classical", "tense", "strings"),
        clip("z", "reggae", "dreamy", "harp", "drums"),
    ]  # fmt: skip
    requests, forms = [], {}
    for number, form in enumerate(UNSEEN):
        exemplars = [Exemplar(one, form.format(**said)) for one, said in shown]
        for one in asked:
            request = Request(f"{number}{one.clip_id}", 0, prefix_of(exemplars), suffix_of(one), 0.0, 1.0, 1, 64)
            requests.append(request)
            forms[request.clip_id] = (form, one)
    recall, followed, others = [], [], []
    for completion in completions(WEIGHTS, requests):
        form, one = forms[completion.request.clip_id]
        text = answer(completion.text)
        recall.append(judge(text, completion.finish, one, (), taxonomy, LIMITS).recall)
        followed.append(likeness(form, text))
        others.append(likeness(UNSEEN[(UNSEEN.index(form) + 5) % len(UNSEEN)], text))
    means = [sum(values) / len(values) for values in (recall, followed, others)]
    assert means[0] >= 0.75 and means[1] >= 0.5 and means[2] < 0.2, means


def likeness(form: str, text: str) -> float:
    """Return the share of a form's own words that a text has."""
    fixed = {word for word in form.split() if "{" not in word}
    return len(fixed & set(text.split())) / len(fixed)


def test_it_copies_tags_that_it_has_never_seen() -> None:
    """Names out of nowhere can only be copied from the prompt; a model that cannot copy names none."""
    shown = [
        Exemplar(clip("a", "jazz", "calm", "piano"), "A calm jazz tune with piano."),
        Exemplar(clip("b", "techno", "dark", "flute"), "A dark techno tune with flute."),
    ]
    asked = [clip("x", "zolura", "sad", "mebanka"), clip("y", "folk", "trifena", "gudelo")]
    requests = [Request(one.clip_id, 0, prefix_of(shown), suffix_of(one), 0.0, 1.0, 1, 64) for one in asked]
    said = " ".join(made.text.lower() for made in completions(WEIGHTS, requests))
    assert any(name in said for name in ("zolura", "mebanka", "trifena", "gudelo")), said
