"""A model behind ``transformers serve``, in one process, for tests of the completions client.

``python -m tests.captioning.bloom_server MODEL OUT MAX_NEW_TOKENS < PROMPTS``: puts what the model in the folder
MODEL writes after each of the prompts (a JSON list) into the file OUT, then serves it on a free port.
"""

import json
import sys
from pathlib import Path


def greedy(folder: Path, prompts: list[str], max_new_tokens: int) -> list[str]:
    """Return what the model writes after each prompt, asked one by one."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModelForCausalLM.from_pretrained(folder, dtype="float32").eval()
    texts = []
    for prompt in prompts:
        inputs = tokenizer(prompt, return_tensors="pt")
        output = model.generate(**inputs, max_new_tokens=max_new_tokens, do_sample=False)
        texts.append(tokenizer.decode(output[0, inputs["input_ids"].shape[1] :], skip_special_tokens=True))
    return texts


def main(folder: Path, out: Path, max_new_tokens: int) -> None:
    """Answer, then serve."""
    from transformers.cli.transformers import main as transformers

    out.write_text(json.dumps(greedy(folder, json.load(sys.stdin), max_new_tokens)))
    options = {"--device": "cpu", "--dtype": "float32", "--host": "127.0.0.1", "--port": "0"}
    sys.argv = ["transformers", "serve", str(folder), *(word for option in options.items() for word in option)]
    transformers()


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]))
