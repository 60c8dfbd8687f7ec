"""What the objective compares: pairs of embeddings, and what tells false negatives apart."""

from typing import NamedTuple

from torch import Tensor

from components.encoder.loss_params import TERMS, Term

__all__ = ["TERMS", "Identities", "Pair", "Term"]


class Pair(NamedTuple):
    """Both sides of one term of the objective; row i belongs to row i.

    Attributes:
        query: (B, E), unit length.
        target: (B, E), unit length.
        present: (B,) True where a sample has both sides; the others count neither as query nor as target.
    """

    query: Tensor
    target: Tensor
    present: Tensor


class Identities(NamedTuple):
    """What may make another sample of the batch a false negative.

    Attributes:
        tracks: (B,) integers; equal numbers are the same track.
        artists: (B,) integers; equal numbers are the same artist.
        sound: (B, D) standardised mean music features, for near duplicates; None where they are not asked for.
    """

    tracks: Tensor
    artists: Tensor
    sound: Tensor | None
