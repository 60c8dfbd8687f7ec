"""Fit the music tagger on the seed library and tag every clip."""

from components import stage, tables
from components.settings import read_section
from components.store import FeatureStore
from components.tagging.examples import require_same_features, seed_examples
from components.tagging.params import ProbeParams, TaggingParams
from components.tagging.report import report
from components.tagging.tag import KEYED_TAGS, tag_clips
from components.tagging.tagger import fit_tagger, save_tagger, tagger_digest


def main() -> None:
    """Read features and seed labels, fit, tag, write tags and tagger."""
    args = stage.arguments(__doc__, "manifest", "music", "seed", "seed-music", "tags", "tagger")
    params: ProbeParams = read_section(TaggingParams, "tagging")
    music, seed_music = FeatureStore.open(args.music), FeatureStore.open(args.seed_music)
    require_same_features(music, seed_music)
    examples = seed_examples(tables.read_rows(args.seed, tables.SEED), seed_music, params.min_examples)
    fit = fit_tagger(examples, params)
    clip_ids = tables.read_table(args.manifest, tables.MANIFEST).column("clip_id").to_pylist()
    digest = tagger_digest(fit.tagger, params.threshold, music.digest)
    tagged = tag_clips(clip_ids, music, fit.tagger, digest, params.threshold, args.tags)
    save_tagger(fit, args.tagger, params, music.digest)
    tables.write_rows(args.tags, tagged.rows, KEYED_TAGS)
    report(examples, fit, tagged)


if __name__ == "__main__":
    stage.run(main)
