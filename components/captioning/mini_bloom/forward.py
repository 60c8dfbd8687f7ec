"""BLOOM's forward pass for training on a processor: the same numbers, sooner.

The library's own pass writes out every attention matrix, and the scores of the whole vocabulary at
every position; training needs neither. B documents, L tokens, H heads, W width.
"""

from typing import Any


def hidden_states(model: Any, tokens: Any) -> Any:
    """Return the last hidden states (B, L, W) of a BloomForCausalLM, ready for its head.

    Args:
        model: in the mode of training, without dropout.
        tokens: (B, L), padded on the right: a causal model's real positions never see the padding.
    """
    from torch.nn import functional as F

    body = model.transformer
    heads = body.config.n_head
    batch, length = tokens.shape
    states = body.word_embeddings_layernorm(body.word_embeddings(tokens))
    bias = _bias(heads, length, states)
    for block in body.h:
        attention, mlp = block.self_attention, block.mlp
        joined = attention.query_key_value(block.input_layernorm(states)).view(batch, length, heads, 3, -1)
        query, key, value = (part.transpose(1, 2) for part in joined.unbind(dim=3))  # (B, H, L, W / H)
        seen = F.scaled_dot_product_attention(query, key, value, attn_mask=bias)
        states = states + attention.dense(seen.transpose(1, 2).reshape(batch, length, -1))
        inner = F.gelu(mlp.dense_h_to_4h(block.post_attention_layernorm(states)), approximate="tanh")
        states = states + mlp.dense_4h_to_h(inner)
    return body.ln_f(states)


def _bias(heads: int, length: int, like: Any) -> Any:
    """Return ALiBi (Press et al., 2022) and the causal mask as one bias, (1, H, L, L)."""
    import torch
    from transformers.models.bloom.modeling_bloom import build_alibi_tensor

    mask = torch.ones((1, length), dtype=torch.long, device=like.device)
    slopes = build_alibi_tensor(mask, heads, dtype=like.dtype).view(1, heads, 1, length)
    causal = torch.full((length, length), float("-inf"), dtype=like.dtype, device=like.device).triu(1)
    return slopes + causal
