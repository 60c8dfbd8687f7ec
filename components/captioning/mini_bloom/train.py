"""Train mini-BLOOM from scratch, on documents drawn as it goes.

Once more than one analogy fits its window, a model finds out by itself that it pays to copy. It does
so sooner on short documents and when it learns from noisy answers too; these come first.

B documents, L tokens.
"""

import json
import math
import random
import time
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
RATE: Final = 2e-3
WARM_UP: Final = 100  # steps
EASY: Final = 0.2  # of the steps: short documents
TOLERANT: Final = 0.5  # of the steps: noisy answers are learnt as well
EXEMPLARS: Final = (1, 2, 2, 3, 3, 3, 4)
DOCUMENT: Final = {1: 180, 2: 260, 3: 340, 4: 420}  # tokens of a document with so many exemplars
SEED: Final = 1


def train(folder: Path, taxonomy: Taxonomy, steps: int, threads: int) -> None:
    """Write tokenizer and weights (float16 safetensors) of a newly trained model into ``folder``.

    Args:
        folder: replaced, whole.
        taxonomy: the vocabulary of its tags.
        steps: batches to learn from.
        threads: processor threads.
    """
    import torch
    from transformers import BloomConfig, BloomForCausalLM

    torch.set_num_threads(threads)
    torch.manual_seed(SEED)
    chance = random.Random(SEED)
    tokenizer = make_tokenizer(chance, taxonomy)
    config = BloomConfig(
        vocab_size=VOCABULARY,
        hidden_size=WIDTH,
        n_layer=LAYERS,
        n_head=HEADS,
        bos_token_id=1,
        eos_token_id=2,
        pad_token_id=3,
        use_cache=True,
    )
    model = BloomForCausalLM(config)
    optimiser = torch.optim.AdamW(model.parameters(), lr=RATE, betas=(0.9, 0.95), weight_decay=0.01)
    since, total = time.monotonic(), 0.0
    for step in range(1, steps + 1):
        for group in optimiser.param_groups:
            group["lr"] = RATE * rate_at(step, steps)
        exemplars = chance.choice(EXEMPLARS if step > EASY * steps else (1, 1, 2))
        drawn = [document(chance, taxonomy, exemplars) for _ in range(TOKENS // DOCUMENT[exemplars])]
        tokens, learnt = batch_of(tokenizer, drawn, tolerant=step <= TOLERANT * steps)
        states = hidden_states(model, tokens)[:, :-1][learnt[:, 1:]]
        loss = torch.nn.functional.cross_entropy(model.lm_head(states), tokens[:, 1:][learnt[:, 1:]])
        optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimiser.step()
        total += loss.item()
        if step % 50 == 0 or step == steps:
            print(f"step {step} of {steps}: loss {total / 50:.3f}, {time.monotonic() - since:.0f} s", flush=True)
            total = 0.0
        if step % 250 == 0 or step == steps:
            save(folder, model, tokenizer, {"steps": step, "of": steps, "seed": SEED, "taxonomy": taxonomy.digest})


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
    texts = ["".join(piece.text for piece in document(chance, taxonomy, 2)) for _ in range(4000)]
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
