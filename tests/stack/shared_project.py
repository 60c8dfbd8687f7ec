"""A small DVC project with what a workspace has: a folder of many files, a big file, one that is kept out, scratch."""

import hashlib
import logging
import random
from pathlib import Path

GRAPH = """
stages:
  make:
    cmd: "true"
    outs:
      - data/many
      - data/big.bin
      - data/media: {cache: false}
"""
FILES = 40


def make_project(folder: Path, seed: int = 0) -> Path:
    """Make the project; its dvc.lock knows every output."""
    from dvc.repo import Repo

    # Its handlers may hold the closed stream of an earlier test that started DVC in this process.
    logging.getLogger("dvc").setLevel(logging.WARNING)

    Repo.init(str(folder), no_scm=True).close()
    (folder / "dvc.yaml").write_text(GRAPH)
    draw = random.Random(seed)
    for name in (*(f"many/{number:02d}.npy" for number in range(FILES)), "big.bin", "media/clip.mp4", "scratch/x"):
        path = folder / "data" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(draw.randbytes(6_000_000 if name == "big.bin" else draw.randrange(1, 60_000)))
    with Repo(str(folder)) as repo:
        repo.commit(force=True)
    return folder


def clone(project: Path, folder: Path) -> Path:
    """What git would bring to another machine: no data, no cache."""
    from dvc.repo import Repo

    folder.mkdir()
    Repo.init(str(folder), no_scm=True).close()
    for name in ("dvc.yaml", "dvc.lock"):
        (folder / name).write_bytes((project / name).read_bytes())
    return folder


def checksums(folder: Path) -> dict[str, str]:
    """Digest of every file that DVC keeps, by path."""
    shared = [folder / "data" / "big.bin", *(folder / "data" / "many").rglob("*")]
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in shared}
