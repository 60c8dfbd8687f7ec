"""Tokens per second of captioning: `generate` one by one, `generate` in padded batches, and the engine.

Prediction: with prompts of which nine tenths are exemplars shared by many clips, `generate` spends its time on
reading the same exemplars again; the engine reads them once per exemplar set. Goal on two CPU cores with a
BLOOM of 6 layers x 512: at least 5 times one-by-one and at least 2 times batched `generate`, same texts.

Weights are random (fixed seed), prompts have the paper's form with six exemplars. Random weights never end a
line, so every method writes the same fixed number of tokens per prompt; the line end cannot be chosen.
The peers answer a new sample of the prompts in each round, the engine all of them, since what it saves depends on
how many share a set; all are in tokens written per second, and every text of the peers is compared.

Run `python -m benchmarks.captioning`. On a GPU: `--device cuda --shape 7b --dtype bfloat16`; there bfloat16 rounds
each method's sums in another way, so that the share of equal texts is printed, not demanded.
"""

import argparse
import random
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from components.captioning.completion import Request

GOALS = {"one by one": 5.0, "batched": 2.0}
SHAPES = {"tiny": (2, 64, 4, 2048), "small": (6, 512, 8, 8192), "7b": (30, 4096, 32, 250880)}
WORDS = 8192  # of the tokenizer; a model with more has room to spare, as BLOOM has
EXEMPLARS = 6

GENRES = [
    "rock",
    "pop",
    "jazz",
    "blues",
    "folk",
    "country",
    "metal",
    "reggae",
    "funk",
    "techno",
    "ambient",
    "classical",
]
MOODS = ["happy", "sad", "calm", "dark", "energetic", "romantic", "dramatic", "dreamy", "epic", "funny", "hopeful"]
INSTRUMENTS = [
    "piano", "acoustic guitar", "electric guitar", "synth bass", "drumset", "violin", "cello", "flute", "trumpet",
    "synthesizer keyboard", "drum machine", "harmonica", "organ", "double bass", "female vocals", "string section",
]  # fmt: skip
FORMS = (
    "A {mood} {genre} track with {one} and {two} that would suit the opening of a travel film.",
    "This {genre} piece has {one} over a steady beat; it feels {mood} and slightly unfinished.",
    "{mood} {genre} song, mid tempo, {one} in front and {two} far in the back of the mix.",
    "Instrumental {genre} loop led by {one}. The mood is {mood}, the recording is rather noisy.",
)


@dataclass(frozen=True)
class Setting:
    """What is measured."""

    model: Any
    tokenizer: Any
    requests: list[Request]
    batch_size: int
    new_tokens: int


def tags(rng: random.Random) -> tuple[str, str]:
    """Return a line of tags and a sentence about them."""

    def listed(words: list[str], count: int) -> tuple[list[str], str]:
        chosen = rng.sample(words, count)
        probabilities = sorted((rng.uniform(30, 95) for _ in chosen), reverse=True)
        return chosen, ", ".join(f"{word} ({value:.1f}%)" for word, value in zip(chosen, probabilities, strict=True))

    genres, genre_text = listed(GENRES, rng.randint(1, 3))
    moods, mood_text = listed(MOODS, rng.randint(1, 3))
    instruments, instrument_text = listed(INSTRUMENTS, rng.randint(2, 4))
    line = f"GENRES: {genre_text}; MOODS: {mood_text}; INSTRUMENTS: {instrument_text}"
    names = {"genre": genres[0], "mood": moods[0], "one": instruments[0], "two": instruments[1]}
    return line, rng.choice(FORMS).format(**names)


def prompts(sets: int, clips: int, new_tokens: int) -> list[Request]:
    """Return requests of clips spread evenly over exemplar sets, in a shuffled order."""
    rng = random.Random(5)  # noqa: S311
    prefixes = []
    for _ in range(sets):
        exemplars = [tags(rng) for _ in range(EXEMPLARS)]
        prefixes.append("".join(f"[Input]: {line}\n[Output]: {text}\n" for line, text in exemplars))
    requests = [
        Request(f"c{at}", 0, prefixes[at % sets], f"[Input]: {tags(rng)[0]}\n[Output]:", 0.0, 1.0, 0, new_tokens)
        for at in range(clips)
    ]
    rng.shuffle(requests)
    return requests


def vocabulary(words: int) -> Any:
    """Return a byte-level BPE trained on texts of the prompts' kind."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    rng = random.Random(6)  # noqa: S311
    raw = Tokenizer(models.BPE())
    raw.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    raw.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=words, special_tokens=["<pad>", "</s>"], initial_alphabet=alphabet, show_progress=False
    )
    raw.train_from_iterator(("\n[Output]: ".join(tags(rng)) for _ in range(2000)), trainer)
    names = {"pad_token": "<pad>", "eos_token": "</s>"}
    made: Any = PreTrainedTokenizerFast
    return made(tokenizer_object=raw, padding_side="left", **names)


def random_bloom(shape: str, device: str, dtype: str, tokenizer: Any) -> Any:
    """Return a BLOOM with random weights, made where it will run, that never ends a line or a text."""
    import torch
    from transformers import BloomConfig, BloomForCausalLM

    layers, width, heads, words = SHAPES[shape]
    config = BloomConfig(
        vocab_size=words,
        hidden_size=width,
        n_layer=layers,
        n_head=heads,
        pad_token_id=0,
        bos_token_id=1,
        eos_token_id=1,
    )
    torch.manual_seed(0)
    torch.set_default_dtype(getattr(torch, dtype))
    with torch.device(device):
        model: Any = BloomForCausalLM(config)
    torch.set_default_dtype(torch.float32)
    known = [token for token in range(len(tokenizer)) if token > 1 and "\n" not in tokenizer.decode([token])]
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if weight.dim() == 2 and "embeddings" not in name:
                weight.mul_(4)  # so that texts differ; fresh weights repeat their last word
        spoken = torch.zeros(words, 1, dtype=torch.bool, device=device)
        spoken[known] = True
        model.get_input_embeddings().weight.mul_(spoken)  # a score of 0 is never the highest
    return model.eval()


def one_by_one(setting: Setting, requests: list[Request]) -> list[str]:
    """Answer each prompt by a call of `generate`, with its key-value cache."""
    return [generated(setting, [request])[0] for request in requests]


def batched(setting: Setting, requests: list[Request]) -> list[str]:
    """Answer by calls of `generate` with prompts of similar length, padded on the left."""
    order = sorted(range(len(requests)), key=lambda at: len(requests[at].prompt))
    texts = [""] * len(requests)
    for first in range(0, len(order), setting.batch_size):
        batch = order[first : first + setting.batch_size]
        for at, text in zip(batch, generated(setting, [requests[at] for at in batch]), strict=True):
            texts[at] = text
    return texts


def generated(setting: Setting, requests: list[Request]) -> list[str]:
    """Return what one call of `generate` writes."""
    import torch

    inputs = setting.tokenizer([request.prompt for request in requests], return_tensors="pt", padding=True)
    inputs = inputs.to(setting.model.device)
    with torch.inference_mode():
        output = setting.model.generate(
            input_ids=inputs["input_ids"],
            attention_mask=inputs["attention_mask"],
            max_new_tokens=setting.new_tokens,
            do_sample=False,
            pad_token_id=0,
        )
    new = output[:, inputs["input_ids"].shape[1] :]
    if new.shape[1] != setting.new_tokens:
        sys.exit("error: the model ended a text by itself")
    texts: list[str] = setting.tokenizer.batch_decode(new, skip_special_tokens=True)
    return texts


def engine(setting: Setting, requests: list[Request]) -> list[str]:
    """Answer by the engine."""
    from components.captioning.engine import Engine

    made = Engine(setting.model, setting.tokenizer, setting.batch_size)
    texts = {completion.request.clip_id: completion.text for completion in made.complete(requests)}
    return [texts[request.clip_id] for request in requests]


def rounds(
    setting: Setting, count: int, sample: int, clock: Callable[[], float]
) -> Iterator[tuple[str, float, dict[str, str], float]]:
    """Yield (method, tokens/s, text per clip, peak memory in GiB); methods take turns."""
    import torch

    rng = random.Random(7)  # noqa: S311
    cuda = setting.model.device.type == "cuda"
    methods: dict[str, Callable[[Setting, list[Request]], list[str]]] = {
        "one by one": one_by_one, "batched": batched, "engine": engine,
    }  # fmt: skip
    for number in range(count + 1):
        chosen = rng.sample(setting.requests, sample)
        for name, method in methods.items():
            requests = setting.requests if name == "engine" else chosen
            if not number:
                requests = requests[:2]  # warms up
            if cuda:
                torch.cuda.reset_peak_memory_stats()
                torch.cuda.synchronize()
            started = clock()
            texts = method(setting, requests)
            if cuda:
                torch.cuda.synchronize()
            speed = len(requests) * setting.new_tokens / (clock() - started)
            memory = torch.cuda.max_memory_allocated() / 2**30 if cuda else 0.0
            if number:
                answers = {request.clip_id: text for request, text in zip(requests, texts, strict=True)}
                yield name, speed, answers, memory


def main() -> None:
    """Measure and print speeds and ratios."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--shape", default="small", choices=SHAPES)
    parser.add_argument("--dtype", default="float32", choices=["float32", "bfloat16", "float16"])
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--cpu-time", action="store_true", help="seconds of CPU; use it where others share the machine")
    parser.add_argument("--sets", type=int, default=16)
    parser.add_argument("--clips", type=int, default=320, help="prompts that the engine answers")
    parser.add_argument("--sample", type=int, default=32, help="prompts that the peers answer in each round")
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--new-tokens", type=int, default=28)
    parser.add_argument("--rounds", type=int, default=3)
    args = parser.parse_args()

    import torch

    from components.captioning.sharing import shared_tokens

    torch.set_num_threads(args.threads)
    tokenizer = vocabulary(min(WORDS, SHAPES[args.shape][3]))
    model = random_bloom(args.shape, args.device, args.dtype, tokenizer)
    setting = Setting(
        model, tokenizer, prompts(args.sets, args.clips, args.new_tokens), args.batch_size, args.new_tokens
    )
    count, tokens, computed = shared_tokens(lambda text: tokenizer(text)["input_ids"], setting.requests)
    parameters = sum(weight.numel() for weight in model.parameters()) / 1e6
    print(f"BLOOM {args.shape}: {parameters:,.1f} M parameters, {args.dtype} on {args.device}, random weights")
    print(f"{count} prompts of {tokens / count:.0f} tokens in {args.sets} sets, {args.new_tokens} new tokens each")
    print(f"prompt tokens: {tokens:,}; with shared prefixes {computed:,} ({tokens / computed:.1f} times fewer)")
    clock = time.process_time if args.cpu_time else time.perf_counter
    speeds: dict[str, list[float]] = {}
    memory: dict[str, float] = {}
    texts: dict[str, dict[str, str]] = {}
    for name, speed, answers, peak in rounds(setting, args.rounds, min(args.sample, args.clips), clock):
        speeds.setdefault(name, []).append(speed)
        memory[name] = max(memory.get(name, 0.0), peak)
        texts.setdefault(name, {}).update(answers)
    medians = {name: statistics.median(values) for name, values in speeds.items()}
    for name, values in speeds.items():
        peak_text = f", peak {memory[name]:.1f} GiB" if memory[name] else ""
        print(f"{name:12} {medians[name]:9.1f} tokens/s   ({min(values):.1f} to {max(values):.1f}){peak_text}")
    reached = True
    for name, goal in GOALS.items():
        ratio = medians["engine"] / medians[name]
        reached &= ratio >= goal
        same = sum(texts["engine"][clip] == text for clip, text in texts[name].items())
        print(f"engine / {name:12} {ratio:5.2f}   goal {goal:.0f}   equal texts {same} of {len(texts[name])}")
        if args.dtype == "float32" and same < len(texts[name]):
            sys.exit("error: the texts differ")
    print(f"different texts: {len(set(texts['engine'].values()))} of {args.clips}")
    sys.exit(0 if reached else 1)


if __name__ == "__main__":
    main()
