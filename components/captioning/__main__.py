"""Write a caption for every tagged clip."""

from components import stage
from components.captioning.captioner import build_captioner
from components.captioning.inputs import read_clips, read_exemplars
from components.captioning.params import BloomParams, CaptioningParams, Data2TextParams, TagsParams
from components.captioning.progress import caption_clips, publish
from components.captioning.report import report
from components.settings import read_section


def main() -> None:
    """Read tags and descriptions, write what is missing of the captions."""
    args = stage.arguments(__doc__, "manifest", "tags", "annotated", "captions")
    params: TagsParams | Data2TextParams | BloomParams = read_section(CaptioningParams, "captioning")
    clips = read_clips(args.manifest, args.tags)
    captioner = build_captioner(params, read_exemplars(args.manifest, args.annotated, clips))
    captioned = caption_clips(clips, params.kind, captioner, args.captions)
    publish(captioned, args.captions)
    report(captioned)


if __name__ == "__main__":
    stage.run(main)
