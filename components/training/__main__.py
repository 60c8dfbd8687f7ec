"""Train the trimodal model: video and text to music."""

from components import stage, tables
from components.encoder.device import wait_quietly
from components.encoder.params import EncoderSection
from components.settings import read_section
from components.store import FeatureStore
from components.training.params import TrainingSection


def main() -> None:
    """Read sections and files, train, write model, history and summary."""
    inputs, outputs = ("manifest", "video", "music", "text", "annotations"), ("model", "history", "summary")
    args = stage.arguments(__doc__, *inputs, *outputs, "checkpoints", "journal")
    encoder: EncoderSection = read_section(EncoderSection, "encoder")
    section: TrainingSection = read_section(TrainingSection, "training")
    from components.training.world import reporting, start_workers

    if start_workers(section):
        return
    from components.training.data import Features
    from components.training.run import train

    with reporting():
        stores = [FeatureStore.open(path) for path in (args.video, args.music, args.text, args.annotations)]
        manifest = tables.read_rows(args.manifest, tables.MANIFEST)
        trained = train(manifest, Features(*stores), encoder, section, args.checkpoints, args.journal)
        trained.write(args.model, args.history, args.summary)


if __name__ == "__main__":
    wait_quietly()
    stage.run(main)
