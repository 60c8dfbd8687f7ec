"""The Transformer block that towers and fusion are made of. Shapes: B samples, S positions, W width."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from components.encoder.dropout import Dropout


class Block(nn.Module):
    """Pre-norm Transformer block: self-attention over valid positions, then a feed-forward part."""

    def __init__(self, width: int, heads: int, feedforward: int, dropout: float) -> None:
        super().__init__()
        self.heads, self.drop = heads, Dropout(dropout)
        self.norm_attention, self.norm_feedforward = nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.up, self.down = nn.Linear(width, feedforward), nn.Linear(feedforward, width)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:  # (B, S, W), (B, S) -> (B, S, W)
        b, s, w = x.shape
        q, k, v = self.qkv(self.norm_attention(x)).view(b, s, 3, self.heads, w // self.heads).permute(2, 0, 3, 1, 4)
        mixed = F.scaled_dot_product_attention(q, k, v, attn_mask=mask[:, None, None, :])
        x = x + self.drop(self.out(mixed.transpose(1, 2).reshape(b, s, w)))
        return torch.as_tensor(x + self.drop(self.down(self.drop(F.gelu(self.up(self.norm_feedforward(x)))))))
