"""The one place that chooses a tagger; each is imported only where it is asked for."""

from pathlib import Path
from typing import assert_never

from components.tagging.params import ClapParams, CnnParams, HfParams, ProbeParams, TaggingParams
from components.tagging.tagger import Fitted, Library
from components.taxonomy import Taxonomy


def build_tagger(params: TaggingParams, taxonomy: Taxonomy, library: Library, folder: Path) -> Fitted:
    """Return the tagger that the section asks for, fitted on or judged by the seed library.

    Args:
        params: the section.
        taxonomy: gives labels their groups and names.
        library: tagged tracks; may be empty.
        folder: the tagger of the last run, if there is one; what still holds is taken from it.

    Raises:
        ValueError: a file that the section names cannot be used; it is named.
    """
    match params:
        case ProbeParams():
            from components.tagging.probe import fit_probe_tagger

            return fit_probe_tagger(params, taxonomy, library, folder)
        case CnnParams():
            from components.tagging.cnn import Cnn
            from components.tagging.judge import judged

            return judged(Cnn(params), params, taxonomy, library, folder)
        case HfParams():
            from components.tagging.hf import Hf
            from components.tagging.judge import judged

            return judged(Hf(params), params, taxonomy, library, folder)
        case ClapParams():
            from components.tagging.clap import Clap
            from components.tagging.judge import judged

            return judged(Clap(params, taxonomy), params, taxonomy, library, folder)
        case _:
            assert_never(params)
