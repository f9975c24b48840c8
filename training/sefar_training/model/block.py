"""One layer of divided space-time attention (TimeSformer) for several temporal elements at once."""

from __future__ import annotations

from functools import partial

import torch
import torch.nn.functional as F
from timm.layers import Attention, DropPath, Mlp
from torch import Tensor, nn

BACKBONE_EPS = 1e-6
BackboneNorm = partial(nn.LayerNorm, eps=BACKBONE_EPS)


class ElementGroups(nn.Module):
    """Which frames belong to which element, as constant tensors.

    Elements exchange nothing before the head. Frames of all elements can therefore share one spatial pass; they differ
    only in which frames attend to each other over time, and in their class token.
    """

    def __init__(self, sample_frames: tuple[int, ...]) -> None:
        super().__init__()
        self.sample_frames = sample_frames
        element_of_frame = torch.repeat_interleave(torch.arange(len(sample_frames)), torch.tensor(sample_frames))
        belongs_EF = element_of_frame[None, :] == torch.arange(len(sample_frames))[:, None]
        together_FF = element_of_frame[:, None] == element_of_frame[None, :]
        self.register_buffer("element_of_frame", element_of_frame, persistent=False)
        self.register_buffer(
            "mask_FF", torch.zeros(together_FF.shape).masked_fill(~together_FF, -torch.inf), persistent=False
        )
        self.register_buffer("mean_EF", belongs_EF / belongs_EF.sum(dim=1, keepdim=True).float(), persistent=False)

    def to_frames(self, cls_BED: Tensor) -> Tensor:
        """Give every frame a copy of its element's class token, (B,F,D)."""
        return cls_BED.index_select(1, self.element_of_frame)

    def mean_over_frames(self, x_BFD: Tensor) -> Tensor:
        """Average over the frames of each element, (B,E,D)."""
        return torch.matmul(self.mean_EF.to(x_BFD.dtype), x_BFD)


class SpaceTimeBlock(nn.Module):
    """Temporal attention between the frames of an element, spatial attention inside each frame, and an MLP.

    Stochastic depth draws what TimeSformer's block draws for a clip, for every element of a clip: temporal attention is
    dropped for one position in all frames, spatial attention for one frame, and the MLP for all tokens, the class token
    included.

    Args:
        dim: width D.
        heads: number of attention heads.
        groups: which frames belong to which element; shared by all blocks.
        mlp_ratio: hidden width of the MLP as a multiple of D.
        drop_path: rate of stochastic depth.
    """

    def __init__(
        self, dim: int, heads: int, groups: ElementGroups, mlp_ratio: float = 4.0, drop_path: float = 0.0
    ) -> None:
        super().__init__()
        self.groups = groups
        self.temporal_norm1 = BackboneNorm(dim)
        self.temporal_attn = Attention(dim, heads, qkv_bias=True)
        self.temporal_fc = nn.Linear(dim, dim)
        self.norm1 = BackboneNorm(dim)
        self.attn = Attention(dim, heads, qkv_bias=True)
        self.norm2 = BackboneNorm(dim)
        self.mlp = Mlp(dim, int(dim * mlp_ratio))
        self.drop_path = DropPath(drop_path)

    @property
    def _drops(self) -> bool:
        return self.training and self.drop_path.drop_prob > 0

    def _draw(self, rows: int, branch: Tensor) -> Tensor:
        """Draw for each row and element whether a branch is kept, (rows,E): 0, or 1 divided by the share kept."""
        elements = len(self.groups.sample_frames)
        return self.drop_path(branch.new_ones(rows * elements, 1)).reshape(rows, elements)  # type: ignore[no-any-return]

    def _temporal(self, x_BFND: Tensor) -> Tensor:
        """Add temporal attention: each token attends to the same position in the other frames of its element."""
        b, f, n, d = x_BFND.shape
        x = self.temporal_norm1(x_BFND).transpose(1, 2).reshape(b * n, f, d)
        # One masked attention for all elements: with so few frames it is as fast as one call per element, and exp(-inf)
        # is exactly 0, so nothing leaks from one element to another.
        y = self.temporal_attn(x, attn_mask=self.groups.mask_FF.to(x.dtype))
        if self._drops:
            y = y * self._draw(b * n, y)[:, self.groups.element_of_frame, None]
        y = self.temporal_fc(y)
        return x_BFND + y.reshape(b, n, f, d).transpose(1, 2)

    def forward(self, cls_BED: Tensor, x_BFND: Tensor) -> tuple[Tensor, Tensor]:
        """Apply the layer to all elements.

        Args:
            cls_BED: class token of each element.
            x_BFND: patch tokens of every frame in element order.

        Returns:
            Updated class tokens and patch tokens, in the same shapes.
        """
        x_BFND = self._temporal(x_BFND)
        b, f, n, d = x_BFND.shape
        frames = torch.cat([self.groups.to_frames(cls_BED).unsqueeze(2), x_BFND], dim=2)
        y = self.drop_path(self.attn(self.norm1(frames).reshape(b * f, n + 1, d))).reshape(b, f, n + 1, d)
        cls_BED = cls_BED + self.groups.mean_over_frames(y[:, :, 0])
        x_BFND = x_BFND + y[:, :, 1:]
        of_cls, of_x = self.mlp(self.norm2(cls_BED)), self.mlp(self.norm2(x_BFND))
        if self._drops:
            keep_BE = self._draw(b, of_cls)
            of_cls = of_cls * keep_BE[..., None]
            of_x = of_x * keep_BE[:, self.groups.element_of_frame, None, None]
        return cls_BED + of_cls, x_BFND + of_x

    def forward_class_tokens(self, cls_BED: Tensor, x_BFND: Tensor) -> Tensor:
        """Apply the layer and return only the class tokens, for the last layer.

        Computes `forward(...)[0]`, without the queries, output projection and MLP of the patch tokens.
        """
        b, f, _, d = x_BFND.shape
        q, k, v = self._class_queries(cls_BED, x_BFND)
        y = self.drop_path(self.attn.proj(_attend(q, k, v, self.attn).reshape(b * f, d))).reshape(b, f, d)
        cls_BED = cls_BED + self.groups.mean_over_frames(y)
        of_cls = self.mlp(self.norm2(cls_BED))
        if self._drops:
            of_cls = of_cls * self._draw(b, of_cls)[..., None]
        return cls_BED + of_cls

    def class_attention(self, cls_BED: Tensor, x_BFND: Tensor) -> Tensor:
        """Attention of the class token to each patch of each frame, averaged over heads, (B,F,N).

        A frame's values sum to less than 1: the rest is the attention to the class token itself.
        """
        b, f, _, _ = x_BFND.shape
        q, k, _ = self._class_queries(cls_BED, x_BFND)
        weights = ((q * self.attn.scale) @ k.transpose(-2, -1)).softmax(dim=-1)
        return weights.mean(dim=1).reshape(b, f, -1)[:, :, 1:]

    def _class_queries(self, cls_BED: Tensor, x_BFND: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Queries (B·F,heads,1,d) of the class token, and keys and values (B·F,heads,1+N,d) of each frame's tokens."""
        x_BFND = self._temporal(x_BFND)
        b, f, n, d = x_BFND.shape
        attn = self.attn
        cls_BFD = self.groups.to_frames(cls_BED)
        frames = self.norm1(torch.cat([cls_BFD.unsqueeze(2), x_BFND], dim=2)).reshape(b * f, n + 1, d)
        weight, bias = attn.qkv.weight, attn.qkv.bias
        q = F.linear(frames[:, :1], weight[:d], bias[:d]).reshape(b * f, 1, attn.num_heads, -1)
        kv = F.linear(frames, weight[d:], bias[d:]).reshape(b * f, n + 1, 2, attn.num_heads, -1)
        k, v = kv.permute(2, 0, 3, 1, 4).unbind(0)
        return q.transpose(1, 2), k, v


def _attend(q: Tensor, k: Tensor, v: Tensor, attn: Attention) -> Tensor:
    """Attention of (…,T,head_dim) queries over keys and values; fused or plain, as set on the module."""
    if attn.fused_attn:
        return F.scaled_dot_product_attention(q, k, v)
    return ((q * attn.scale) @ k.transpose(-2, -1)).softmax(dim=-1) @ v
