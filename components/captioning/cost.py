"""What captioning would cost, before it is spent: prompts and tokens."""

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from components.captioning.analogy import Analogy
from components.captioning.build import build_captioner
from components.captioning.inputs import read_inputs
from components.captioning.params import CaptioningParams
from components.captioning.progress import missing_clips


@dataclass(frozen=True)
class Cost:
    """Of the first attempt of every clip that has no caption yet; retries come on top."""

    clips: int
    prompts: int  # not answered yet
    prompt_tokens: int | None  # None where the tokenizer is at the other end of a network
    prompt_chars: int
    shared_tokens: int | None  # of those, tokens whose work is shared by clips with the same exemplars
    answer_tokens: int  # at most

    def as_json(self) -> dict[str, Any]:
        """Return it as plain values."""
        return asdict(self)

    def sentence(self) -> str:
        """Return it as a person would say it."""
        if not self.prompts:
            return f"{self.clips} captions, nothing to ask of a language model"
        said = f"{self.prompts} prompts of {self.prompt_chars} characters"
        if self.prompt_tokens is not None and self.shared_tokens is not None:
            share = self.shared_tokens / max(1, self.prompt_tokens)
            said = f"{self.prompts} prompts, {self.prompt_tokens} tokens ({self.shared_tokens} saved by sharing, {share:.0%})"
        return f"{said}, answers of at most {self.answer_tokens} tokens"


def estimate(
    params: CaptioningParams,
    manifest: Path,
    tags: Path,
    annotated: Path,
    taxonomy: Path,
    captions: Path,
    completions: Path,
) -> Cost:
    """Count what the stage would ask of a language model if it ran now.

    Raises:
        ValueError: the stage itself would refuse; with the same words.
    """
    inputs = read_inputs(manifest, tags, annotated, taxonomy)
    captioner = build_captioner(params, inputs.sources(captions, completions))
    missing = missing_clips(inputs.clips, captioner, captions, completions)
    if not isinstance(captioner, Analogy):
        return Cost(len(missing), 0, 0, 0, 0, 0)
    requests = captioner.unanswered([clip for clip in missing if not clip.is_empty])
    counted = captioner.language_model.shared_tokens(requests)
    return Cost(
        clips=len(missing),
        prompts=len(requests),
        prompt_tokens=counted[1] if counted else None,
        prompt_chars=sum(len(request.prompt) for request in requests),
        shared_tokens=counted[1] - counted[2] if counted else None,
        answer_tokens=sum(request.max_new_tokens for request in requests),
    )
