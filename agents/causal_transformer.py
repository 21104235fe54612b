"""A causal Transformer that reads a sequence at once or token by token, with a cache of keys and values.

Vaswani et al. (2017), "Attention Is All You Need", with normalisation before each block as in Radford et al. (2019).
There are no position embeddings: causal attention can count, tokens say which trial they are, and a sequence may be
longer than those of the training.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

__all__ = ["CausalBlock", "CausalTransformer", "KeyValueCache"]


class KeyValueCache:
    """Keys and values of all tokens read so far, of every layer.

    Args:
        layers: Number of layers.
        batch: ``B``.
        heads: Attention heads ``H``.
        length: Most tokens ``T``.
        width: Width of a head.
        device: Where they lie.
    """

    def __init__(self, layers: int, batch: int, heads: int, length: int, width: int, device: torch.device) -> None:
        shape = (layers, batch, heads, length, width)
        self._keys = torch.empty(shape, device=device)
        self._values = torch.empty(shape, device=device)
        #: Tokens read so far.
        self.length = 0

    def append(self, layer: int, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        """Store new tokens of a layer, ``[B, H, N, width]``, and return all of them, ``[B, H, length + N, width]``."""
        end = self.length + keys.shape[2]
        self._keys[layer, :, :, self.length : end] = keys
        self._values[layer, :, :, self.length : end] = values
        return self._keys[layer, :, :, :end], self._values[layer, :, :, :end]


class CausalBlock(nn.Module):
    """Causal attention and a perceptron, each added to its input."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.before_attention = nn.LayerNorm(width)
        self.projection = nn.Linear(width, 3 * width)
        self.output = nn.Linear(width, width)
        self.before_perceptron = nn.LayerNorm(width)
        self.perceptron = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width))

    def forward(self, tokens: Tensor, layer: int, cache: KeyValueCache | None) -> Tensor:
        batch, count, width = tokens.shape
        projected = self.projection(self.before_attention(tokens))
        query, key, value = projected.view(batch, count, 3, self.heads, -1).permute(2, 0, 3, 1, 4)
        if cache is not None:
            key, value = cache.append(layer, key, value)
        # One new token may look at all that were before; several only at those before each of them.
        attended = F.scaled_dot_product_attention(query, key, value, is_causal=count > 1)
        tokens = tokens + self.output(attended.transpose(1, 2).reshape(batch, count, width))
        out: Tensor = tokens + self.perceptron(self.before_perceptron(tokens))
        return out


class CausalTransformer(nn.Module):
    """From tokens to what each of them knows of those before it.

    Args:
        inputs: Width ``W`` of a token.
        width: Width ``C`` of the layers, a multiple of ``heads``.
        layers: Number of layers.
        heads: Attention heads.
    """

    def __init__(self, inputs: int, width: int, layers: int, heads: int) -> None:
        super().__init__()
        self.width, self.heads = width, heads
        self.embed = nn.Sequential(nn.Linear(inputs, width), nn.GELU(), nn.Linear(width, width))
        self.blocks = nn.ModuleList(CausalBlock(width, heads) for _ in range(layers))
        self.after = nn.LayerNorm(width)
        for name, parameter in self.named_parameters():
            # What is added to the residual stream is scaled down by the number of additions (Radford et al., 2019).
            if name.endswith(("output.weight", "perceptron.2.weight")):
                nn.init.normal_(parameter, std=0.02 / (2.0 * layers) ** 0.5)

    def cache(self, batch: int, length: int) -> KeyValueCache:
        """Return an empty cache for ``batch`` sequences of at most ``length`` tokens."""
        return KeyValueCache(
            len(self.blocks), batch, self.heads, length, self.width // self.heads, self.after.weight.device
        )

    def forward(self, tokens: Tensor, cache: KeyValueCache | None = None) -> Tensor:
        """Read tokens.

        Args:
            tokens: float32 ``[B, N, W]``.
            cache: What was read before, which these tokens are added to; an empty one, or one new token (``N = 1``).

        Returns:
            float32 ``[B, N, C]``.
        """
        hidden = self.embed(tokens)
        for layer, block in enumerate(self.blocks):
            hidden = block(hidden, layer, cache)
        if cache is not None:
            cache.length += tokens.shape[1]
        out: Tensor = self.after(hidden)
        return out
