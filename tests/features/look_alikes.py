"""Tiny models with weights by chance, saved as the library saves real ones."""

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from components.features.params import HfParams

WORDS = [
    "warm", "acoustic", "folk", "with", "a", "hopeful", "mood", "no", "vocals", "dark", "heavy", "metal", "and", "drums", "calm", "piano", "of", "loud"
]  # fmt: skip
SPECIAL = ["<pad>", "<s>", "</s>", "<unk>"]
VOCABULARY = len(SPECIAL) + len(WORDS)
PICTURES = {"image_mean": [0.48, 0.46, 0.41], "image_std": [0.27, 0.26, 0.28], "rescale_factor": 1 / 255}
TOWER = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2}
VISION = TOWER | {"image_size": 32, "patch_size": 8}
TEXT = TOWER | {"vocab_size": VOCABULARY, "max_position_embeddings": 40, "pad_token_id": 0, "bos_token_id": 1}
TEXT |= {"eos_token_id": 2}


def section(**changed: Any) -> HfParams:
    """The section with absent models, one process and small batches; ``video__model=...`` changes a key inside."""
    tree: dict[str, Any] = {
        "kind": "hf", "segment_s": 1.0, "max_segments": 4, "workers": 1, "shard_rows": 16, "device": "cpu",
        "dtype": "auto", "batch_size": 4, "threads": 1,
        "video": {"model": "absent", "revision": "main", "frames_per_s": 2.0},
        "music": {"model": "absent", "revision": "main", "pooling": "model"},
        "text": {"model": "absent", "revision": "main", "output": "pooled", "max_tokens": 16},
    }  # fmt: skip
    for key, value in changed.items():
        place, _, name = key.rpartition("__")
        (tree[place] if place else tree)[name] = str(value) if isinstance(value, Path) else value
    return HfParams.model_validate(tree)


def save_json(path: Path, content: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content))


def save_tokenizer(folder: Path, most: int = 40) -> None:
    """Words by number, between a start and an end."""
    from tokenizers import Tokenizer, models, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.WordLevel({word: at for at, word in enumerate(SPECIAL + WORDS)}, "<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.TemplateProcessing("<s> $A </s>", special_tokens=[("<s>", 1), ("</s>", 2)])
    special = dict(zip(("pad_token", "bos_token", "eos_token", "unk_token"), SPECIAL, strict=True))
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, model_max_length=most, **special).save_pretrained(folder)


def clip(folder: Path, seed: int = 0) -> Path:
    """CLIP: shorter side to 32 pixels, middle 32 x 32."""
    from transformers import CLIPConfig, CLIPModel

    torch.manual_seed(seed)
    config = CLIPConfig(
        text_config=TEXT | {"projection_dim": 12}, vision_config=VISION | {"projection_dim": 12}, projection_dim=12
    )
    CLIPModel(config).save_pretrained(folder)
    size = {"size": {"shortest_edge": 32}, "crop_size": {"height": 32, "width": 32}, "do_center_crop": True}
    save_json(folder / "preprocessor_config.json", PICTURES | size)
    save_tokenizer(folder)
    return folder


def siglip(folder: Path, naflex: bool = False) -> Path:
    """SigLIP, as SigLIP 2 of one resolution is saved too; or SigLIP 2 for any shape of at most 16 patches."""
    from transformers import Siglip2Config, Siglip2Model, SiglipConfig, SiglipModel

    torch.manual_seed(0)
    if naflex:
        vision = TOWER | {"patch_size": 8, "num_patches": 16}
        Siglip2Model(Siglip2Config(text_config=TEXT, vision_config=vision)).save_pretrained(folder)
        save_json(folder / "preprocessor_config.json", PICTURES | {"patch_size": 8, "max_num_patches": 16})
    else:
        SiglipModel(SiglipConfig(text_config=TEXT, vision_config=VISION)).save_pretrained(folder)
        # As the processor of pictures and text is saved: one file for both.
        save_json(
            folder / "processor_config.json", {"image_processor": PICTURES | {"size": {"height": 32, "width": 32}}}
        )
    save_tokenizer(folder)
    return folder


def clap(folder: Path, truncation: str = "rand_trunc") -> Path:
    """CLAP that hears 1 s at 16 kHz."""
    from transformers import ClapConfig, ClapFeatureExtractor, ClapModel

    torch.manual_seed(0)
    audio = {
        "spec_size": 64, "num_mel_bins": 16, "patch_size": 4, "patch_stride": [4, 4], "window_size": 4,
        "hidden_size": 32, "depths": [1, 1], "num_attention_heads": [2, 2], "patch_embeds_hidden_size": 16,
        "num_classes": 2, "enable_fusion": truncation == "fusion", "projection_dim": 10,
    }  # fmt: skip
    ClapModel(
        ClapConfig(audio_config=audio, text_config=TEXT | {"projection_dim": 10}, projection_dim=10)
    ).save_pretrained(folder)
    ClapFeatureExtractor(
        feature_size=16, sampling_rate=16_000, hop_length=160, max_length_s=1, fft_window_size=512,
        frequency_max=8000, truncation=truncation,
    ).save_pretrained(folder)  # fmt: skip
    save_tokenizer(folder)
    return folder


def ast(folder: Path) -> Path:
    """An Audio Spectrogram Transformer with a classifier on top, as published ones have; hears about 1 s."""
    from transformers import ASTConfig, ASTFeatureExtractor, ASTForAudioClassification

    torch.manual_seed(0)
    config = ASTConfig(**TOWER, num_mel_bins=32, max_length=98, frequency_stride=16, time_stride=16)
    ASTForAudioClassification(config).save_pretrained(folder)
    ASTFeatureExtractor(num_mel_bins=32, max_length=98).save_pretrained(folder)
    return folder


def wave(folder: Path) -> Path:
    """wav2vec 2.0 with three convolutions."""
    from transformers import Wav2Vec2Config, Wav2Vec2FeatureExtractor, Wav2Vec2Model

    torch.manual_seed(0)
    config = Wav2Vec2Config(
        **TOWER, conv_dim=(8, 8, 8), conv_stride=(10, 8, 4), conv_kernel=(10, 8, 4), num_feat_extract_layers=3,
        num_conv_pos_embeddings=4, num_conv_pos_embedding_groups=2,
    )  # fmt: skip
    Wav2Vec2Model(config).save_pretrained(folder)
    Wav2Vec2FeatureExtractor(do_normalize=True).save_pretrained(folder)
    return folder


def sentence(folder: Path, mode: str = "mean_tokens", unit: bool = True) -> Path:
    """A BERT with the files of the sentence-transformers library."""
    from transformers import BertConfig, BertModel

    torch.manual_seed(0)
    config = BertConfig(**{key: value for key, value in TEXT.items() if "token_id" not in key}, pad_token_id=0)
    BertModel(config).save_pretrained(folder)
    save_tokenizer(folder)
    names = ["Transformer", "Pooling", *(["Normalize"] if unit else [])]
    paths = ["", "1_Pooling", "2_Normalize"]
    listed = [
        {"idx": at, "path": path, "type": f"sentence_transformers.models.{name}"}
        for at, (name, path) in enumerate(zip(names, paths, strict=False))
    ]
    save_json(folder / "modules.json", listed)
    modes = ("mean_tokens", "cls_token", "max_tokens", "mean_sqrt_len_tokens")
    save_json(folder / "1_Pooling" / "config.json", {f"pooling_mode_{one}": one == mode for one in modes})
    return folder


def perception(folder: Path, which: str) -> Path:
    """PE-AV of sound and text, of pictures and text, or of all three (``joint``); see ``without_timm``."""
    import transformers as hf

    torch.manual_seed(0)
    text = hf.ModernBertConfig(**TEXT, cls_token_id=1, sep_token_id=2)
    tower = TOWER | {"head_dim": 8, "num_hidden_layers": 1}
    codec = hf.DacConfig(downsampling_ratios=[8, 16], upsampling_ratios=[16, 8], encoder_hidden_size=4, codebook_dim=8)
    audio = hf.PeAudioEncoderConfig(dac_config=codec, **tower)
    video = hf.PeVideoEncoderConfig(vision_config=hf.TimmWrapperConfig(architecture="tiny"), **tower)
    with without_timm():
        if which == "audio":
            model = hf.PeAudioModel(hf.PeAudioConfig(text_config=text, audio_config=audio))
        elif which == "video":
            model = hf.PeVideoModel(hf.PeVideoConfig(text_config=text, video_config=video))
        else:
            both = hf.PeAudioVideoEncoderConfig(audio_config=audio, video_config=video, **tower)
            model = hf.PeAudioVideoModel(hf.PeAudioVideoConfig(text_config=text, audio_video_config=both))
        model.save_pretrained(folder)
    hf.PeAudioFeatureExtractor(sampling_rate=16_000, hop_length=128).save_pretrained(folder)
    save_json(folder / "video_preprocessor_config.json", PICTURES | {"size": {"height": 32, "width": 32}})
    save_tokenizer(folder)
    return folder


@contextmanager
def without_timm() -> Iterator[None]:
    """Stand a small ViT in for the picture model that PE-AV takes from timm, which is not installed."""
    from transformers import AutoModelForImageClassification, ViTConfig, ViTForImageClassification

    original = AutoModelForImageClassification.from_config
    AutoModelForImageClassification.from_config = lambda config, **_: ViTForImageClassification(
        ViTConfig(**VISION, num_labels=config.num_labels)
    )
    try:
        yield
    finally:
        AutoModelForImageClassification.from_config = original


def edited(folder: Path, copy: Path, **config: Any) -> Path:
    """A copy of a model's folder; with another config where one is given."""
    for root, _, names in os.walk(folder):
        place = copy / Path(root).relative_to(folder)
        place.mkdir(parents=True)
        for name in names:
            (place / name).write_bytes((Path(root) / name).read_bytes())
    if config:
        save_json(copy / "config.json", json.loads((copy / "config.json").read_text()) | config)
    return copy
