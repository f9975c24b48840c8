"""The backbone: takes the frames or joints of all temporal elements, returns one D-vector per element."""

from __future__ import annotations

import torch
from timm.layers import Attention
from torch import Tensor, nn

from .block import BackboneNorm, ElementGroups, SpaceTimeBlock
from .stem import Stem


class TimeSformer(nn.Module):
    """Divided space-time transformer, applied to each temporal element with shared weights.

    Parameters are named as in the TimeSformer release, so that its checkpoints and those of image ViTs map to ours by
    prefix alone.

    Args:
        sample_frames: frames per element, context last.
        stem: turns each frame into tokens, see `create_stem`.
        dim: width D.
        depth: number of layers; 0 leaves the motion summary alone.
        heads: number of attention heads.
        drop_path: rate of stochastic depth at the last layer; it rises linearly from 0.
    """

    def __init__(
        self,
        sample_frames: tuple[int, ...],
        stem: Stem,
        *,
        dim: int,
        depth: int,
        heads: int,
        drop_path: float = 0.0,
    ) -> None:
        super().__init__()
        self.dim = dim
        self.sample_frames = sample_frames
        self.groups = ElementGroups(sample_frames)
        self.patch_embed = stem.module
        self.cls_token = nn.Parameter(torch.zeros(1, 1, dim))
        self.pos_embed = nn.Parameter(torch.zeros(1, 1 + stem.tokens, dim))
        self.time_embed = nn.ParameterList(nn.Parameter(torch.zeros(1, n, dim)) for n in sample_frames)
        self.motion = stem.motion
        rates = torch.linspace(0, drop_path, depth).tolist()
        self.blocks = nn.ModuleList(SpaceTimeBlock(dim, heads, self.groups, drop_path=r) for r in rates)
        self.norm = BackboneNorm(dim)
        self._stem_frozen = False
        self._initialise()

    def _initialise(self) -> None:
        for module in self.blocks.modules():
            if isinstance(module, nn.Linear):
                nn.init.trunc_normal_(module.weight, std=0.02)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)
        nn.init.trunc_normal_(self.cls_token, std=0.02)
        nn.init.trunc_normal_(self.pos_embed, std=0.02)
        for embedding in self.time_embed:
            nn.init.trunc_normal_(embedding, std=0.02)
        for block in self.blocks:
            # The network starts as an image model applied to each frame, and learns time from there.
            nn.init.zeros_(block.temporal_fc.weight)
            nn.init.zeros_(block.temporal_fc.bias)

    def set_fused_attention(self, fused: bool) -> None:
        """Choose torch's fused attention or plain matrix products. Results differ only by rounding."""
        for module in self.modules():
            if isinstance(module, Attention):
                module.fused_attn = fused

    def freeze_stem(self) -> None:
        """Freeze the stem from here on: its weights, and its batch statistics even in train mode."""
        self.patch_embed.requires_grad_(False)
        self._stem_frozen = True
        self.train(self.training)

    def train(self, mode: bool = True) -> TimeSformer:
        """Set train or eval mode; a frozen stem stays in eval mode."""
        super().train(mode)
        if self._stem_frozen:
            self.patch_embed.eval()
        return self

    def embed(self, inputs: Tensor) -> tuple[Tensor, Tensor]:
        """Turn inputs into class tokens (B,E,D) and space tokens (B,F,N,D), with position and time embeddings added.

        Raises:
            ValueError: F is not the sum of `sample_frames`.
        """
        b, f = inputs.shape[:2]
        wanted = sum(self.sample_frames)
        if f != wanted:
            raise ValueError(f"clips have {f} frames, but sample_frames {self.sample_frames} needs {wanted}")
        x = self.patch_embed(inputs.flatten(0, 1))
        x_BFND = x.unflatten(0, (b, f)) + self.pos_embed[:, None, 1:]
        x_BFND = x_BFND + torch.cat(list(self.time_embed), dim=1).unsqueeze(2)
        cls_BED = (self.cls_token + self.pos_embed[:, :1]).expand(b, len(self.sample_frames), -1)
        return cls_BED, x_BFND

    def forward(self, inputs: Tensor) -> Tensor:
        """Encode each element.

        Args:
            inputs: normalised frames, float (B,F,3,H,W), or joints, float (B,F,P,J,4), in element order
                [fine_1 | … | context].

        Returns:
            tokens_BED, one D-vector per element.

        Raises:
            ValueError: F is not the sum of `sample_frames`.
        """
        return self.encode(*self.embed(inputs))

    def encode(self, cls_BED: Tensor, x_BFND: Tensor) -> Tensor:
        """Encode each element from the output of `embed`, or from a mixture of such outputs, (B,E,D)."""
        cls_BED = self._class_tokens(cls_BED, x_BFND)
        if not self.blocks:
            return cls_BED
        for block in self.blocks[:-1]:
            cls_BED, x_BFND = block(cls_BED, x_BFND)
        return self.norm(self.blocks[-1].forward_class_tokens(cls_BED, x_BFND))

    def _class_tokens(self, cls_BED: Tensor, x_BFND: Tensor) -> Tensor:
        """Class tokens at the first layer. Made here and not in `embed`, so that those of mixed clips are mixed too."""
        return cls_BED if self.motion is None else cls_BED + self.motion(x_BFND)

    def class_attention(self, inputs: Tensor) -> Tensor:
        """Attention of each element's class token to each space token of its frames in the last layer, (B,F,N)."""
        cls_BED, x_BFND = self.embed(inputs)
        cls_BED = self._class_tokens(cls_BED, x_BFND)
        for block in self.blocks[:-1]:
            cls_BED, x_BFND = block(cls_BED, x_BFND)
        return self.blocks[-1].class_attention(cls_BED, x_BFND)

    def frame_features(self, inputs: Tensor) -> Tensor:
        """Encode each frame as the mean of its space tokens after the last layer, (B,F,D)."""
        cls_BED, x_BFND = self.embed(inputs)
        cls_BED = self._class_tokens(cls_BED, x_BFND)
        for block in self.blocks:
            cls_BED, x_BFND = block(cls_BED, x_BFND)
        return self.norm(x_BFND).mean(dim=2)
