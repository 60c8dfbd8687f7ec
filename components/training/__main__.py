"""Train the trimodal model: video and text to music."""

from components import stage, tables
from components.encoder.params import EncoderSection
from components.encoder.threads import wait_quietly
from components.modalities import MODALITIES
from components.settings import read_section
from components.store import FeatureStore
from components.training.params import TrainingSection


def main() -> None:
    """Read sections and files, train, write model, history and summary."""
    args = stage.arguments(
        __doc__, "manifest", "video", "music", "text", "annotations", "model", "history", "summary", "checkpoints"
    )
    encoder: EncoderSection = read_section(EncoderSection, "encoder")
    section: TrainingSection = read_section(TrainingSection, "training")
    from components.encoder.serialise import save_model
    from components.training.data import Features
    from components.training.run import train

    features = Features(*(FeatureStore.open(path) for path in (args.video, args.music, args.text, args.annotations)))
    trained = train(tables.read_rows(args.manifest, tables.MANIFEST), features, encoder, section, args.checkpoints)
    with stage.atomic_folder(args.model) as folder:
        save_model(folder, trained.model, {m: features.store(m).digest for m in MODALITIES})
    trained.write_record(args.history, args.summary)
    trained.checkpoints.remove()


if __name__ == "__main__":
    wait_quietly()
    stage.run(main)
