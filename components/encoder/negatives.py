"""Which columns of a score matrix are negatives of which rows.

Shapes: b rows (this process's samples), B columns (all processes'), r rows of a block.
"""

import torch
from torch import Tensor
from torch.nn import functional as F

from components.encoder.loss_params import MaskSection
from components.encoder.pairs import Identities

# What stands in the place of a logit that is no negative: exp of it is 0, and unlike minus
# infinity it can be subtracted from itself.
NONE = -1e30

# Cosines of equal vectors fall short of 1 by rounding.
ROUNDING = 1e-6


class Negatives:
    """Everyone but the sample itself and its false negatives.

    Args:
        mask: which false negatives to leave out.
        columns: identities of the B columns; the rows are a run of them.
        own: column of the first row; row i's own column is ``own + i``.
        present: (B,) True for samples that take part; None for all. With it nothing is looked up in the
            data that would decide shapes.
    """

    def __init__(self, mask: MaskSection, columns: Identities, own: int, present: Tensor | None = None) -> None:
        self.own, self.present = own, present
        wanted = ((mask.same_track, columns.tracks), (mask.same_artist, columns.artists))
        numbered = [_renumber(ids) if present is None else ids for asked, ids in wanted if asked]
        self.groups = [ids for ids in numbered if ids is not None]
        self.sound, self.threshold = None, 0.0
        if mask.near_duplicates is not None:
            assert columns.sound is not None, "encoder.loss.mask.near_duplicates needs Identities.sound"
            self.sound = F.normalize(columns.sound.float(), dim=1)  # (B, D)
            self.threshold = mask.near_duplicates - ROUNDING

    def fill(self, block: Tensor, first: int) -> None:
        """Put ``NONE`` into ``block`` (r, B), rows ``first`` to ``first + r``, wherever there is no negative."""
        start = self.own + first
        rows = slice(start, start + len(block))
        block.diagonal(start).fill_(NONE)
        if self.present is not None:
            block.masked_fill_(~(self.present[rows, None] & self.present), NONE)
        for ids in self.groups:
            block.masked_fill_(ids[rows, None] == ids, NONE)
        if self.sound is not None:
            block.masked_fill_(self.sound[rows] @ self.sound.T >= self.threshold, NONE)


def _renumber(ids: Tensor) -> Tensor | None:
    """Return small numbers for ``ids`` (B,), which compare faster; None if all differ and no comparison is needed."""
    distinct, numbers = torch.unique(ids, return_inverse=True)
    return None if len(distinct) == len(ids) else numbers.int()
