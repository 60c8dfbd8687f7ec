"""Parameters of the ``captioning`` section."""

from typing import Annotated, Literal

from pydantic import Field, model_validator

from components.settings import Section


class RandomExemplars(Section):
    """Exemplars drawn by chance; clips share a limited number of draws, so that their prompts begin alike."""

    kind: Literal["random"]
    """How exemplars are chosen: by chance."""
    sets: Annotated[int, Field(ge=1, le=4096)]
    """Different draws; each clip uses one. Fewer draws share more of the work."""


class NearestExemplars(Section):
    """The described clips whose tags are most like the clip's own."""

    kind: Literal["nearest"]
    """How exemplars are chosen: by likeness of tags (cosine of probabilities)."""


class DiverseExemplars(Section):
    """Like the clip, yet unlike each other (maximal marginal relevance; Carbonell and Goldstein, 1998)."""

    kind: Literal["diverse"]
    """How exemplars are chosen: by maximal marginal relevance."""
    relevance: Annotated[float, Field(ge=0, le=1)]
    """Weight of likeness to the clip against unlikeness to those already chosen; 1 is ``nearest``."""


class PromptParams(Section):
    """What a prompt shows (ViML, CVPR 2023, section 3.1)."""

    exemplars: Annotated[int, Field(ge=1, le=32)]
    """Described train clips in each prompt."""
    selection: Annotated[RandomExemplars | NearestExemplars | DiverseExemplars, Field(discriminator="kind")]
    """Which clips those are."""
    max_tags: Annotated[int, Field(ge=1, le=50)]
    """Most tags of one group in a prompt, the likeliest; the others are not asked for."""
    token_budget: Annotated[int, Field(ge=64)]
    """Longest prompt with its answer, in tokens; exemplars are left out until it is kept."""


class DecodingParams(Section):
    """How a continuation is written."""

    temperature: Annotated[float, Field(ge=0, le=2)]
    """Of the first attempt; 0 takes the likeliest token each time."""
    retry_temperature: Annotated[float, Field(gt=0, le=2)]
    """Of further attempts, each with a seed of its own."""
    top_p: Annotated[float, Field(gt=0, le=1)]
    """Sampling keeps to the likeliest tokens whose probabilities reach this sum."""
    max_new_tokens: Annotated[int, Field(ge=4, le=512)]
    """Longest answer, in tokens."""


class QualityParams(Section):
    """What a caption must be like to be used; `needledrop blame` tells a clip's verdict."""

    min_recall: Annotated[float, Field(ge=0, le=1)]
    """Least share of the prompt's tags that the caption names, itself or by a synonym."""
    max_hallucinated: Annotated[int, Field(ge=0)]
    """Most musical terms that no tag of the clip covers, in terms."""
    leaked_words: Annotated[int, Field(ge=3, le=32)]
    """A run of this many words of an exemplar is a leak, in words."""
    leaked_share: Annotated[float, Field(gt=0, le=1)]
    """A longest common subsequence with an exemplar of this share of the caption's words is a leak too."""
    min_words: Annotated[int, Field(ge=1)]
    """Shortest caption, in words."""
    max_words: Annotated[int, Field(ge=1)]
    """Longest caption, in words."""
    near_duplicate: Annotated[float, Field(gt=0, le=1)]
    """Captions of this Jaccard likeness (of word 3-grams) count as near-duplicates."""
    max_cluster: Annotated[float, Field(gt=0, le=1)]
    """Largest share of captions in one cluster of near-duplicates; above it the texts have collapsed."""
    least_yield: Annotated[float, Field(ge=0, le=1)]
    """Least share of clips whose caption passed every check; below it the suite warns."""

    @model_validator(mode="after")
    def _ordered(self) -> "QualityParams":
        if self.min_words > self.max_words:
            raise ValueError("min_words is larger than max_words")
        return self


class TagsParams(Section):
    """The paper's plainest text: the tags' names, one after the other."""

    kind: Literal["tags"]
    """Which captioner: the tags themselves."""
    quality: QualityParams
    """What is checked."""


class Data2TextParams(Section):
    """Sentences from templates, with everyday synonyms; no model."""

    kind: Literal["data2text"]
    """Which captioner: templates."""
    seed: Annotated[int, Field(ge=0)]
    """Decides templates and synonyms, together with the clip."""
    max_tags: Annotated[int, Field(ge=1, le=10)]
    """Most tags of one group that a sentence may name."""
    synonyms: Annotated[float, Field(ge=0, le=1)]
    """Probability that a tag is told by one of its synonyms, where it has any."""
    quality: QualityParams
    """What is checked."""


class AnalogyParams(Section):
    """Analogy prompting of a language model (ViML, CVPR 2023, section 3.1), wherever the model runs."""

    seed: Annotated[int, Field(ge=0)]
    """Decides exemplars and samples, together with the clip."""
    prompt: PromptParams
    """What a prompt shows."""
    decoding: DecodingParams
    """How the answer is written."""
    attempts: Annotated[int, Field(ge=1, le=20)]
    """Tries per clip, the first included."""
    otherwise: Literal["data2text", "quarantine"]
    """What becomes of a clip without a good caption: a template's sentence, or the quarantine."""
    quality: QualityParams
    """What a good caption is."""


class BloomParams(AnalogyParams):
    """A language model in this process: BLOOM of any size, or another causal model."""

    kind: Literal["bloom"]
    """Which captioner: a language model run here."""
    model: Annotated[str, Field(min_length=1)]
    """Folder of a model, or its name on the hub; weights must be safetensors."""
    revision: Annotated[str, Field(min_length=1)]
    """Revision on the hub: a commit or a tag; a folder's files are hashed besides."""
    dtype: Literal["float32", "bfloat16", "float16"]
    """Precision of the computation; in float32 a caption does not depend on its batch."""
    quantisation: Literal["none", "int8", "nf4"]
    """Precision of the stored weights; other than none needs CUDA and the extra `hf-gpu`."""
    device_map: Literal["none", "auto", "balanced"]
    """How a large model is spread over GPUs; none puts it on one device."""
    batch_size: Annotated[int, Field(ge=1, le=4096)]
    """Prompts answered at once; halved by itself where memory runs out."""


class EndpointParams(AnalogyParams):
    """An OpenAI-compatible completions server, such as vLLM."""

    kind: Literal["endpoint"]
    """Which captioner: a language model behind HTTP."""
    url: Annotated[str, Field(pattern=r"^https?://")]
    """Base address that /completions is appended to, e.g. http://localhost:8000/v1."""
    model: Annotated[str, Field(min_length=1)]
    """Name of the model, as the server calls it."""
    revision: Annotated[str, Field(min_length=1)]
    """Recorded with every caption; to be changed when the server serves other weights by the same name."""
    key_variable: Annotated[str, Field(pattern=r"^[A-Z_][A-Z0-9_]*$")]
    """Environment variable that holds the key; no key is sent where it is unset."""
    concurrency: Annotated[int, Field(ge=1, le=512)]
    """Requests under way at once."""
    timeout_s: Annotated[float, Field(gt=0)]
    """Longest wait for one answer, in seconds."""
    retries: Annotated[int, Field(ge=0, le=20)]
    """Further tries of one request after 408, 409, 429, 5xx, a time-out or a lost connection."""
    longest_wait_s: Annotated[float, Field(gt=0)]
    """Longest pause before such a try, in seconds; pauses double and have jitter."""


CaptioningParams = Annotated[TagsParams | Data2TextParams | BloomParams | EndpointParams, Field(discriminator="kind")]
