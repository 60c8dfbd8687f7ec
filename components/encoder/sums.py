"""Sums over the negatives, with the whole score matrix in memory: the plain form of ``streaming``.

Shapes: b rows (queries), B columns (targets), E embedding dims.
"""

from torch import Tensor
from torch.nn import functional as F

from components.encoder.negatives import Negatives


def log_sum_exps(query: Tensor, target: Tensor, scale: Tensor, negatives: Negatives) -> tuple[Tensor, Tensor]:
    """Return log sum exp of the negatives' logits for each row (b,) and each column (B,).

    Args:
        query: (b, E).
        target: (B, E).
        scale: factor on the cosine, scalar.
        negatives: of ``query`` among ``target``. Without any, the result is ``negatives.NONE``.
    """
    logits = scale * query @ target.T  # (b, B)
    negatives.fill(logits, 0)
    return logits.logsumexp(dim=1), logits.logsumexp(dim=0)


def softplus_sum(query: Tensor, target: Tensor, scale: Tensor, bias: Tensor, negatives: Negatives) -> Tensor:
    """Return the sum of softplus(logit + bias) over all negatives; arguments as above."""
    logits = scale * query @ target.T + bias  # (b, B)
    negatives.fill(logits, 0)
    return F.softplus(logits).sum()
