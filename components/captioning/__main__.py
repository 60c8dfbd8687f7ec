"""Write a caption for every tagged clip."""

from components import stage
from components.captioning.build import build_captioner
from components.captioning.inputs import read_inputs
from components.captioning.params import CaptioningParams
from components.captioning.progress import caption_clips
from components.captioning.publish import publish, publish_quality, report
from components.settings import read_section

INPUTS = ("manifest", "tags", "annotated", "taxonomy")
OUTPUTS = ("captions", "completions", "quarantine", "quality")


def main() -> None:
    """Read tags and descriptions, write what is missing of the captions, and judge them all."""
    args = stage.arguments(__doc__, *INPUTS, *OUTPUTS)
    params: CaptioningParams = read_section(CaptioningParams, "captioning")
    inputs = read_inputs(args.manifest, args.tags, args.annotated, args.taxonomy)
    captioner = build_captioner(params, inputs.sources(args.captions, args.completions))
    captioned = caption_clips(inputs.clips, params.kind, captioner, args.captions, args.completions, inputs.uris)
    quality = publish_quality(captioned, inputs, params, args.quality)
    publish(captioned, args.captions, args.completions, args.quarantine)
    report(captioned, quality)


if __name__ == "__main__":
    stage.run(main)
