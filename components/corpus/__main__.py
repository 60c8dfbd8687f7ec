"""Bring the corpus into place: media first, then the tables that describe them."""

from components import stage
from components.corpus.build import build_corpus
from components.corpus.params import CorpusParams
from components.settings import read_section


def main() -> None:
    """Read the section, render or fetch what is missing, write the tables."""
    args = stage.arguments(
        __doc__, "source", "media", "inventory", "annotations", "seed", "seed-tags", "truth", "refused"
    )
    params: CorpusParams = read_section(CorpusParams, "corpus")
    corpus = build_corpus(params, args.source, args.media, args.seed)
    corpus.write(args.inventory, args.annotations, args.seed_tags, args.truth, args.refused)


if __name__ == "__main__":
    stage.run(main)
