"""Frozen backbones and their linear head: the same interface as the trained model, without anything learnt by steps."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, NamedTuple

import timm
from torch import Tensor, nn

from sefar_serve.pose import JOINTS

from .head import DROPOUT, EMBEDDING_DIM, Head

BackboneName = Literal["timesformer", "efficientnet-lite0", "coordinates"]
"""What turns frames or joints into tokens: our transformer, which is trained, or something that never is."""


class ImageNetwork(NamedTuple):
    """A pretrained network that describes single frames.

    Attributes:
        architecture: timm's name.
        width: length of its features.
        size: side of its square frames in pixels.
        mean: per RGB channel in [0, 1].
        std: per RGB channel in [0, 1].
    """

    architecture: str
    width: int
    size: int
    mean: tuple[float, float, float]
    std: tuple[float, float, float]


IMAGE_NETWORKS: dict[BackboneName, ImageNetwork] = {
    "efficientnet-lite0": ImageNetwork(
        "tf_efficientnet_lite0", 1280, 192, (127 / 255, 127 / 255, 127 / 255), (128 / 255, 128 / 255, 128 / 255)
    )
}


class FrozenBackbone(nn.Module):
    """One vector for each frame; a token is the vectors of an element's frames, in order.

    Args:
        sample_frames: frames per temporal element, the same number for all.
        width: length C of a frame's vector.

    Raises:
        ValueError: the elements have different numbers of frames.
    """

    def __init__(self, sample_frames: Sequence[int], width: int) -> None:
        super().__init__()
        if len(set(sample_frames)) != 1:
            raise ValueError(
                f"sample_frames {tuple(sample_frames)}: a frozen backbone needs elements of the same number of frames"
            )
        self.elements = len(sample_frames)
        self.dim = sample_frames[0] * width

    def describe(self, inputs: Tensor) -> Tensor:
        """The vectors (B,F,C) of the frames of a batch of clips."""
        raise NotImplementedError

    def forward(self, inputs: Tensor) -> Tensor:
        """Turn normalised frames, float (B,F,3,H,W), or joints, float (B,F,P,J,4), into tokens (B,E,D)."""
        return self.describe(inputs).flatten(1).unflatten(1, (self.elements, self.dim))

    def set_fused_attention(self, fused: bool) -> None:
        """Do nothing: there is no attention to choose an implementation for."""

    def train(self, mode: bool = True) -> FrozenBackbone:
        """Stay in eval mode."""
        return super().train(False)


class FrameVectors(FrozenBackbone):
    """Frames described by a frozen image network: the mean over its last map.

    Args:
        sample_frames: frames per temporal element.
        network: which one; its weights are random until they are loaded.
    """

    def __init__(self, sample_frames: Sequence[int], network: ImageNetwork) -> None:
        super().__init__(sample_frames, network.width)
        self.network = timm.create_model(network.architecture, pretrained=False, num_classes=0)
        self.requires_grad_(False)
        self.train()

    def describe(self, inputs: Tensor) -> Tensor:
        """The features (B,F,C) of normalised frames, float (B,F,3,H,W)."""
        return self.network(inputs.flatten(0, 1)).unflatten(0, inputs.shape[:2])


class Coordinates(FrozenBackbone):
    """Frames described by the coordinates of the joints, without their visibility.

    Args:
        sample_frames: frames per temporal element.
        persons: number of persons P.
    """

    def __init__(self, sample_frames: Sequence[int], persons: int) -> None:
        super().__init__(sample_frames, 3 * persons * len(JOINTS))

    def describe(self, inputs: Tensor) -> Tensor:
        """The coordinates (B,F,P·J·3) of normalised joints, float (B,F,P,J,4)."""
        return inputs[..., :3].flatten(2)


class LinearHead(Head):
    """A linear map of all tokens to the clip embedding, and another one to the class scores.

    Args:
        elements: number of elements E.
        dim: width D of the tokens.
        classes: number of classes K.
        dropout: rate between embedding and classifier in the Monte-Carlo samples behind η.
    """

    def __init__(self, elements: int, dim: int, classes: int, dropout: float = DROPOUT) -> None:
        super().__init__()
        self.projection = nn.Linear(elements * dim, EMBEDDING_DIM)
        self.dropout = nn.Dropout(dropout)
        self.classifier = nn.Linear(EMBEDDING_DIM, classes)

    def embed(self, tokens_BED: Tensor) -> Tensor:
        """Project the element tokens to the clip embedding, (B,256)."""
        return self.projection(tokens_BED.flatten(1))
