"""Compute the segment features of one modality into a store."""

from components import stage, tables
from components.features.compute import quarantine_rows, require_passed, update_features
from components.features.extractor import build_extractor
from components.features.params import FeaturesParams
from components.features.source import read_sources
from components.modalities import MODALITIES
from components.settings import read_section


def main() -> None:
    """Read the rows, compute what is missing, write the store and what was refused."""
    args = stage.arguments(
        __doc__, "modality", "rows", "verdict", "store", "quarantine", choices={"modality": MODALITIES}
    )
    params: FeaturesParams = read_section(FeaturesParams, "features")
    require_passed(args.verdict)
    sources = read_sources(args.rows, args.modality)
    report = update_features(sources, build_extractor(params, args.modality), args.store, params.shard_rows)
    tables.write_rows(args.quarantine, quarantine_rows(report, sources), tables.QUARANTINE)
    print(f"features {args.store.name}: {report}")


if __name__ == "__main__":
    stage.run(main)
