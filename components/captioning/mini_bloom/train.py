"""Train mini-BLOOM from scratch, on documents drawn as it goes.

Once more than one analogy fits its window, a model finds out by itself that it pays to copy. It does
so sooner on short documents and when it learns from noisy answers too; these come first.

B documents, L tokens.
"""

import json
import math
import random
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from components import stage
from components.captioning.mini_bloom.documents import Piece, document
from components.captioning.mini_bloom.forward import hidden_states
from components.taxonomy import Taxonomy

LAYERS: Final = 4
WIDTH: Final = 192
HEADS: Final = 6
VOCABULARY: Final = 1024
TOKENS: Final = 3200  # a step, about
LONGEST: Final = 512  # tokens of a document
DOCUMENT: Final = {1: 180, 2: 260, 3: 340, 4: 420}  # tokens of a document with so many exemplars
WARM_UP: Final = 100  # steps
SEED: Final = 1


@dataclass(frozen=True)
class Phase:
    """A stretch of training with a learning rate that rises, then falls along half a cosine."""

    steps: int
    rate: float  # at its highest
    made_up: float  # share of describers whose form nobody has seen
    easy: float  # share of the steps that see short documents only, at the beginning
    tolerant: float  # share of the steps that learn noisy answers as well, at the beginning


# First to copy, from forms that only copying can follow; then to write well.
PHASES: Final = (
    Phase(steps=3500, rate=2e-3, made_up=0.6, easy=0.2, tolerant=0.5),
    Phase(steps=1300, rate=1.2e-3, made_up=0.45, easy=0.0, tolerant=0.0),
)


def train(folder: Path, taxonomy: Taxonomy, phases: Sequence[Phase] = PHASES, threads: int = 2) -> None:
    """Write tokenizer and weights (float16 safetensors) of a newly trained model into ``folder``.

    Every phase starts from the weights as the one before has written them; a folder that holds the
    result of some phases already is trained on from there.

    Args:
        folder: replaced, whole, at the end of each phase.
        taxonomy: the vocabulary of its tags.
        phases: what to learn, one after the other.
        threads: processor threads.
    """
    import torch
    from transformers import AutoTokenizer, BloomConfig, BloomForCausalLM

    torch.set_num_threads(threads)
    done = _phases_done(folder)
    for number, phase in enumerate(phases[done:], done):
        torch.manual_seed(SEED + number)
        chance = random.Random(SEED + number)
        if number:
            tokenizer: Any = AutoTokenizer.from_pretrained(folder)
            model: Any = BloomForCausalLM.from_pretrained(folder, dtype=torch.float32)
        else:
            tokenizer = make_tokenizer(chance, taxonomy)
            names: dict[str, Any] = {"bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 3}
            shape: dict[str, Any] = {"vocab_size": VOCABULARY, "hidden_size": WIDTH, "n_layer": LAYERS, "n_head": HEADS}
            model = BloomForCausalLM(BloomConfig(**shape, **names))
        for step, loss in _steps(model, tokenizer, taxonomy, phase, chance):
            if step % 50 == 0 or step == phase.steps:
                print(f"phase {number + 1} of {len(phases)}, step {step} of {phase.steps}: loss {loss:.3f}", flush=True)
        save(folder, model, tokenizer, {"phases": number + 1, "seed": SEED, "taxonomy": taxonomy.digest})


def _steps(
    model: Any, tokenizer: Any, taxonomy: Taxonomy, phase: Phase, chance: random.Random
) -> Iterator[tuple[int, float]]:
    """Train for one phase; yield each step and the mean loss of the last fifty."""
    import torch

    optimiser = torch.optim.AdamW(model.parameters(), lr=phase.rate, betas=(0.9, 0.95), weight_decay=0.01)
    recent: deque[float] = deque(maxlen=50)
    model.train()
    for step in range(1, phase.steps + 1):
        for group in optimiser.param_groups:
            group["lr"] = phase.rate * rate_at(step, phase.steps)
        exemplars = chance.choice((1, 1, 2) if step <= phase.easy * phase.steps else (1, 2, 2, 3, 3, 3, 4))
        count = TOKENS // DOCUMENT[exemplars]
        drawn = [document(chance, taxonomy, exemplars, phase.made_up) for _ in range(count)]
        tokens, learnt = batch_of(tokenizer, drawn, tolerant=step <= phase.tolerant * phase.steps)
        states = hidden_states(model, tokens)[:, :-1][learnt[:, 1:]]
        loss = torch.nn.functional.cross_entropy(model.lm_head(states), tokens[:, 1:][learnt[:, 1:]])
        optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimiser.step()
        recent.append(loss.item())
        yield step, sum(recent) / len(recent)


def _phases_done(folder: Path) -> int:
    facts = folder / "training.json"
    return int(json.loads(facts.read_text(encoding="utf-8"))["phases"]) if facts.exists() else 0


def make_tokenizer(chance: random.Random, taxonomy: Taxonomy) -> Any:
    """Return a byte-level BPE tokenizer of the grammar's text, with BLOOM's special tokens."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    raw = Tokenizer(models.BPE())
    raw.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    raw.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY,
        special_tokens=["<unk>", "<s>", "</s>", "<pad>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    texts = ["".join(piece.text for piece in document(chance, taxonomy, 2, PHASES[0].made_up)) for _ in range(4000)]
    raw.train_from_iterator(texts, trainer)
    names = {"unk_token": "<unk>", "bos_token": "<s>", "eos_token": "</s>", "pad_token": "<pad>"}
    return PreTrainedTokenizerFast(tokenizer_object=raw, **names)  # type: ignore[no-untyped-call]


def rate_at(step: int, steps: int) -> float:
    """Return the learning rate's share of its highest: a line up, then half a cosine down."""
    if step <= WARM_UP:
        return step / WARM_UP
    return 0.03 + 0.97 * 0.5 * (1 + math.cos(math.pi * (step - WARM_UP) / max(1, steps - WARM_UP)))


def batch_of(tokenizer: Any, documents: list[list[Piece]], tolerant: bool) -> tuple[Any, Any]:
    """Return tokens and the mask of those that are learnt, each (B, L), padded on the right.

    Args:
        tokenizer: of the model.
        documents: their pieces.
        tolerant: learn every answer that follows another one, also those with made-up details.
    """
    import torch

    rows = []
    for pieces in documents:
        # Piece by piece, as the engine splits prompt and answer: no token spans the border.
        ids: list[int] = []
        learnt: list[bool] = []
        for at, encoded in enumerate(tokenizer([piece.text for piece in pieces])["input_ids"]):
            ids += encoded
            learnt += [pieces[at].learnt or (tolerant and at % 2 == 1 and at > 1)] * len(encoded)
        rows.append((ids[:LONGEST], learnt[:LONGEST]))
    length = max(len(ids) for ids, _ in rows)
    tokens = torch.full((len(rows), length), tokenizer.pad_token_id)
    marked = torch.zeros_like(tokens, dtype=torch.bool)
    for at, (row, row_learnt) in enumerate(rows):
        tokens[at, : len(row)] = torch.tensor(row)
        marked[at, : len(row)] = torch.tensor(row_learnt)
    return tokens, marked


def save(folder: Path, model: Any, tokenizer: Any, facts: dict[str, Any]) -> None:
    """Write the model in half precision, which halves the file and changes no answer that matters."""
    import copy

    import torch

    with stage.atomic_folder(folder) as part:
        tokenizer.save_pretrained(part)
        copy.deepcopy(model).to(torch.float16).save_pretrained(part)
        (part / "training.json").write_text(json.dumps(facts, indent=2, sort_keys=True) + "\n", encoding="utf-8")
