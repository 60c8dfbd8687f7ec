"""Parameters of the ``captioning`` section."""

from typing import Annotated, Literal

from pydantic import Field

from components.settings import Section


class TagsParams(Section):
    """The paper's plainest text: the tags' names, one after the other."""

    kind: Literal["tags"]
    """Which captioner: the tags themselves."""


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


class BloomParams(Section):
    """Analogy prompting of a causal language model (ViML, CVPR 2023, section 3.1)."""

    kind: Literal["bloom"]
    """Which captioner: a language model."""
    model: Annotated[str, Field(min_length=1)]
    """Folder of a model, or its name on the hub; weights must be safetensors."""
    revision: Annotated[str, Field(min_length=1)]
    """Revision on the hub; for a folder, any word, to be changed whenever its files change."""
    dtype: Literal["float32", "bfloat16"]
    """Precision of the weights; in float32 a caption does not depend on its batch."""
    seed: Annotated[int, Field(ge=0)]
    """Decides which exemplars a clip's prompt shows."""
    exemplars: Annotated[int, Field(ge=1, le=32)]
    """Described clips in each prompt."""
    exemplar_sets: Annotated[int, Field(ge=1, le=1024)]
    """Different choices of exemplars; clips share them, so that prompts begin alike."""
    max_new_tokens: Annotated[int, Field(ge=4, le=512)]
    """Longest answer, in tokens."""
    batch_size: Annotated[int, Field(ge=1, le=1024)]
    """Prompts answered at once."""


CaptioningParams = Annotated[TagsParams | Data2TextParams | BloomParams, Field(discriminator="kind")]
