"""Probe and decode every file, find copies, make splits, quarantine what cannot be used."""

from components import stage
from components.ingest.params import Ingest
from components.ingest.run import ingest
from components.ingest.splits import check_counts
from components.settings import read_section
from components.tables import INVENTORY, QUARANTINE, read_rows


def main() -> None:
    """Run the stage."""
    args = stage.arguments(
        __doc__,
        *("inventory", "annotations", "seed-tags", "refused"),
        *("manifest", "quarantine", "annotated", "seed", "splits", "cache"),
    )
    params: Ingest = read_section(Ingest, "ingest")
    inventory, refused = read_rows(args.inventory, INVENTORY), read_rows(args.refused, QUARANTINE)
    result = ingest(inventory, refused, args.annotations, args.seed_tags, args.splits, params, args.cache)
    result.write(args.manifest, args.quarantine, args.annotated, args.seed, args.splits)
    check_counts(result.manifest, params.splits)  # last, so that the tables are there to look at


if __name__ == "__main__":
    stage.run(main)
