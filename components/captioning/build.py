"""The one place that chooses a captioner; each backend is imported only where it is asked for."""

from typing import assert_never

from components.captioning.captioner import Captioner, Sources
from components.captioning.params import BloomParams, CaptioningParams, Data2TextParams, EndpointParams, TagsParams


def build_captioner(params: CaptioningParams, sources: Sources) -> Captioner:
    """Return the captioner that the section asks for.

    Args:
        params: the section.
        sources: what captioners may draw on.

    Raises:
        ValueError: the section names what cannot be used, or there are too few exemplars; the key is named.
    """
    match params:
        case TagsParams():
            from components.captioning.concatenated import Concatenated

            return Concatenated()
        case Data2TextParams(seed=seed, max_tags=max_tags, synonyms=synonyms):
            from components.captioning.data2text import Data2Text

            return Data2Text(seed, max_tags, synonyms, sources.taxonomy)
        case BloomParams():
            from components.captioning.analogy import Analogy
            from components.captioning.bloom import LocalModel

            return Analogy(params, sources, LocalModel(params))
        case EndpointParams():
            from components.captioning.analogy import Analogy
            from components.captioning.endpoint import Endpoint

            return Analogy(params, sources, Endpoint(params))
        case _:
            assert_never(params)
