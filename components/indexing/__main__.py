"""Embed the catalogue's music and index it."""

from components import stage, tables
from components.encoder.device import wait_quietly
from components.indexing.params import IndexingSection
from components.settings import read_section
from components.store import FeatureStore


def main() -> None:
    """Read section and files, embed every clip's music, write the catalogue."""
    args = stage.arguments(__doc__, "manifest", "music", "tags", "model", "index")
    section: IndexingSection = read_section(IndexingSection, "indexing")
    from components.encoder.serialise import load_model
    from components.indexing.catalogue import write_catalogue
    from components.indexing.run import make_catalogue

    music, manifest = FeatureStore.open(args.music), tables.read_rows(args.manifest, tables.MANIFEST)
    made = make_catalogue(load_model(args.model), music, manifest, tables.read_rows(args.tags, tables.TAGS), section)
    with stage.atomic_folder(args.index) as folder:
        write_catalogue(folder, *made, section)


if __name__ == "__main__":
    wait_quietly()
    stage.run(main)
