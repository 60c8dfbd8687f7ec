"""Tag every clip: fit the tagger on the seed library, or have a pre-trained one listen."""

from components import stage, tables
from components.settings import read_section
from components.tagging.build import build_tagger
from components.tagging.clips import read_clips
from components.tagging.folder import partial_of
from components.tagging.params import TaggingParams
from components.tagging.progress import score_clips
from components.tagging.report import report
from components.tagging.tag import Outputs, publish, read_scores
from components.tagging.tagger import Library
from components.taxonomy import read_taxonomy

_INPUTS = ("manifest", "music", "seed", "seed-music", "taxonomy")
_OUTPUTS = ("tags", "scores", "quarantine", "tagger")


def main() -> None:
    """Read clips and seed library, fit, score, write tags, scores, quarantine and tagger."""
    args = stage.arguments(__doc__, *_INPUTS, *_OUTPUTS)
    params: TaggingParams = read_section(TaggingParams, "tagging")
    library = Library(tables.read_rows(args.seed, tables.SEED), args.seed_music, args.music)
    fitted = build_tagger(params, read_taxonomy(args.taxonomy), library, args.tagger)
    scored = score_clips(fitted.tagger, read_clips(args.manifest), read_scores(args.scores), partial_of(args.scores))
    rows = publish(scored, fitted, params, Outputs(args.tags, args.scores, args.quarantine, args.tagger))
    report(fitted, scored, rows)


if __name__ == "__main__":
    stage.run(main)
