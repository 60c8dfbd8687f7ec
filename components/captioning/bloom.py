"""``kind: bloom``: a causal language model completes the analogy prompt."""

import hashlib
import json
import logging
from collections.abc import Iterator, Sequence
from typing import Any

from components.captioning.captioner import Caption, Exemplar, Tagged, version_of
from components.captioning.data2text import Data2Text
from components.captioning.params import BloomParams, Data2TextParams
from components.captioning.prompt import PROMPT_VERSION, answer, chosen_exemplars, prompt, usable_exemplars

log = logging.getLogger(__name__)


class Bloom:
    """Greedy answers of BLOOM, or of any causal model, in batches padded on the left.

    A clip whose answer has no letter gets a template sentence and the verdict ``fallback``.
    """

    def __init__(self, params: BloomParams, exemplars: Sequence[Exemplar]) -> None:
        """Choose the pool; the model is loaded when the first caption is asked for.

        Raises:
            ValueError: too few described train clips for a prompt.
        """
        pool = usable_exemplars(exemplars)
        if len(pool) <= params.exemplars:
            raise ValueError(
                f"captioning: {len(pool)} of {len(exemplars)} described train clips can be exemplars, a prompt needs "
                f"{params.exemplars} beside the clip itself; lower captioning.exemplars or describe more train clips"
            )
        if len(pool) < len(exemplars):
            log.info(
                "captioning: %d of %d described train clips left out as exemplars",
                len(exemplars) - len(pool),
                len(exemplars),
            )
        listed = [[item.clip.clip_id, item.clip.digest, item.text] for item in pool]
        pool_digest = hashlib.sha256(json.dumps(listed).encode()).hexdigest()
        settings = params.model_dump(exclude={"batch_size"})
        self._params, self._pool = params, pool
        self._plain = Data2Text(Data2TextParams(kind="data2text", seed=params.seed, max_tags=3, synonyms=0.0))
        self.seed = params.seed
        self.version = version_of("bloom", PROMPT_VERSION, settings, pool_digest)

    def caption(self, clips: Sequence[Tagged]) -> Iterator[Caption]:
        """See ``Captioner.caption``."""
        params = self._params
        tokenizer, model = _load(params)
        for first in range(0, len(clips), params.batch_size):
            batch = clips[first : first + params.batch_size]
            shown = [
                chosen_exemplars(clip, self._pool, params.exemplars, params.exemplar_sets, params.seed)
                for clip in batch
            ]
            prompts = [prompt(clip, exemplars) for clip, exemplars in zip(batch, shown, strict=True)]
            answers = _generate(tokenizer, model, prompts, params.max_new_tokens)
            for clip, exemplars, generated in zip(batch, shown, answers, strict=True):
                text = answer(generated)
                usable = any(letter.isalpha() for letter in text)
                yield Caption(
                    clip.clip_id,
                    text if usable else self._plain.sentence(clip),
                    "ok" if usable else "fallback",
                    attempts=1,
                    exemplar_ids=tuple(exemplar.clip.clip_id for exemplar in exemplars),
                )


def _load(params: BloomParams) -> tuple[Any, Any]:
    """Load tokenizer and weights; never code from the model's folder, never pickled weights.

    Raises:
        ValueError: there is no such model, or its weights are not safetensors.
    """
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    source = {"revision": params.revision, "trust_remote_code": False}
    try:
        tokenizer: Any = AutoTokenizer.from_pretrained(params.model, padding_side="left", **source)
        model: Any = AutoModelForCausalLM.from_pretrained(
            params.model, dtype=getattr(torch, params.dtype), use_safetensors=True, **source
        )
    except (OSError, ValueError) as error:
        reason = " ".join(str(error).split())[:300]
        raise ValueError(f"captioning.model: {params.model!r} cannot be loaded: {reason}") from None
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token
    device = "cuda" if torch.cuda.is_available() else "cpu"
    return tokenizer, model.to(device).eval()


def _generate(tokenizer: Any, model: Any, prompts: Sequence[str], max_new_tokens: int) -> list[str]:
    """Return what the model writes after each prompt, up to the first line's end."""
    import torch
    from transformers import StoppingCriteriaList

    inputs = tokenizer(list(prompts), return_tensors="pt", padding=True).to(model.device)
    length = inputs["input_ids"].shape[1]
    with torch.inference_mode():
        output = model.generate(
            input_ids=inputs["input_ids"],
            attention_mask=inputs["attention_mask"],
            max_new_tokens=max_new_tokens,
            do_sample=False,
            num_beams=1,
            pad_token_id=tokenizer.pad_token_id,
            stopping_criteria=StoppingCriteriaList([_line_ended(tokenizer, length)]),
        )
    texts: list[str] = tokenizer.batch_decode(output[:, length:], skip_special_tokens=True)
    return texts


def _line_ended(tokenizer: Any, length: int) -> Any:
    """Return a criterion that stops each row once its answer's first line is complete."""
    import torch
    from transformers import StoppingCriteria

    class LineEnded(StoppingCriteria):
        def __call__(self, input_ids: Any, scores: Any, **kwargs: Any) -> Any:
            texts = tokenizer.batch_decode(input_ids[:, length:], skip_special_tokens=True)
            ended = ["\n" in text.lstrip() for text in texts]
            return torch.tensor(ended, dtype=torch.bool, device=input_ids.device)

    return LineEnded()
