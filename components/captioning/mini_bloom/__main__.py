"""Train mini-BLOOM: `python -m components.captioning.mini_bloom FOLDER` (an hour on two processor cores)."""

import argparse
from pathlib import Path

from components.captioning.mini_bloom.train import train
from components.taxonomy import read_taxonomy

if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path, help="where tokenizer and weights go")
    parser.add_argument("--taxonomy", type=Path, default=Path("components/taxonomy.yaml"))
    parser.add_argument("--threads", type=int, default=2)
    arguments = parser.parse_args()
    train(arguments.folder, read_taxonomy(arguments.taxonomy), threads=arguments.threads)
