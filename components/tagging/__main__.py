"""Fit the music tagger on the seed library and tag every clip."""

from components import stage, tables
from components.settings import read_section
from components.tagging.examples import open_stores, seed_examples
from components.tagging.params import ProbeParams, TaggingParams
from components.tagging.report import report
from components.tagging.tag import KEYED_TAGS, read_clip_ids, tag_clips
from components.tagging.tagger import fit_tagger, save_tagger, tagger_digest


def main() -> None:
    """Read features and seed labels, fit, tag, write tags and tagger."""
    args = stage.arguments(__doc__, "manifest", "music", "seed", "seed-music", "tags", "tagger")
    params: ProbeParams = read_section(TaggingParams, "tagging")
    music, seed_music = open_stores(args.music, args.seed_music)
    fit = fit_tagger(seed_examples(tables.read_rows(args.seed, tables.SEED), seed_music, params.min_examples), params)
    tagged = tag_clips(
        read_clip_ids(args.manifest),
        music,
        fit.tagger,
        tagger_digest(fit.tagger, params.threshold, music.digest),
        params.threshold,
        args.tags,
    )
    save_tagger(fit, args.tagger, params, music.digest)
    tables.write_rows(args.tags, tagged.rows, KEYED_TAGS)
    report(fit, tagged)


if __name__ == "__main__":
    stage.run(main)
