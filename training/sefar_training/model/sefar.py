"""The complete SeFAR model and its named variants."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, NamedTuple, Self, get_args

from pydantic import BaseModel, ConfigDict, Field, model_validator
from torch import Tensor, nn

from sefar_serve.sampling import Layout, Sampling

from .backbone import TimeSformer
from .frozen import IMAGE_NETWORKS, BackboneName, Coordinates, FrameVectors, FrozenBackbone, LinearHead
from .head import DROPOUT, EMBEDDING_DIM, FusionHead, Head, SumHead
from .stem import create_joint_stem, create_stem

VariantName = Literal["tiny", "small", "base", "pose-tiny", "pose-small"]

Stream = Literal["rgb", "pose"]
"""What a trained model sees: pictures or joints."""


class Architecture(BaseModel):
    """Sizes of a backbone.

    Attributes:
        patch: side of a patch in pixels; not used by ``joints``.
        dim: width D.
        depth: number of layers; 0 only for ``joints``, which then are read by temporal convolutions alone.
        heads: number of attention heads.
        stem: ``patch`` (a ViT's projection), ``conv`` (four convolutions, for models trained from scratch), or
            ``joints`` (one token for each joint).
        bones: only for ``joints``: give each token also the bone that ends at its joint.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    patch: int = Field(default=16, ge=1)
    dim: int = Field(ge=1)
    depth: int = Field(ge=0)
    heads: int = Field(ge=1)
    stem: Literal["patch", "conv", "joints"] = "patch"
    bones: bool = False

    @property
    def stream(self) -> Stream:
        """What a model of this architecture sees."""
        return "pose" if self.stem == "joints" else "rgb"

    @model_validator(mode="after")
    def _divisible(self) -> Self:
        if self.dim % self.heads:
            raise ValueError(f"width {self.dim} is not a multiple of the number of heads {self.heads}")
        if self.depth == 0 and self.stem != "joints":
            raise ValueError(f"depth 0 belongs to the stem joints, not to {self.stem}")
        if self.stem == "joints" and self.dim != EMBEDDING_DIM:
            raise ValueError(f"the stem joints needs width {EMBEDDING_DIM}, not {self.dim}")
        if self.bones and self.stem != "joints":
            raise ValueError(f"bones belong to the stem joints, not to {self.stem}")
        return self


class Variant(Architecture):
    """A named architecture.

    Attributes:
        size: default side of the square frames in pixels; None if it sees joints.
    """

    size: int | None = None


VARIANTS: dict[VariantName, Variant] = {
    "tiny": Variant(size=64, patch=16, dim=128, depth=4, heads=4, stem="conv"),
    "small": Variant(size=224, patch=16, dim=384, depth=12, heads=6),
    "base": Variant(size=224, patch=16, dim=768, depth=12, heads=12),
    # With few labels, layers of attention cost accuracy; see docs/explanation/decisions/0010-poses.md.
    "pose-tiny": Variant(dim=256, depth=0, heads=4, stem="joints"),
    "pose-small": Variant(dim=256, depth=2, heads=4, stem="joints"),
}
assert set(VARIANTS) == set(get_args(VariantName))


DEFAULT_SIZE = 224
"""Side in pixels of the frames of an architecture without a named variant."""


class SefarOutput(NamedTuple):
    """The model's output for a batch of clips."""

    logits: Tensor
    """(B,K) class scores before softmax."""
    embedding: Tensor
    """(B,256) clip embedding."""
    tokens: Tensor
    """(B,E,D) one vector per temporal element."""


class SefarModel(nn.Module):
    """Backbone and fusion head. They can be called separately: one backbone pass serves any number of head passes.

    Args:
        backbone: maps frames or joints to element tokens.
        head: maps element tokens to embedding and logits.
    """

    def __init__(self, backbone: TimeSformer | FrozenBackbone, head: Head) -> None:
        super().__init__()
        self.backbone = backbone
        self.head = head

    def forward(self, inputs: Tensor) -> SefarOutput:
        """Classify clips of normalised frames, float (B,F,3,H,W), or joints, float (B,F,P,J,4), in element order."""
        tokens = self.backbone(inputs)
        embedding, logits = self.head(tokens)
        return SefarOutput(logits, embedding, tokens)


def create_model(
    variant: VariantName,
    classes: int,
    sample_frames: tuple[int, ...] = (2, 2, 4),
    *,
    layout: Layout = "interleaved",
    size: int | None = None,
    persons: int = 1,
    dropout: float = DROPOUT,
    drop_path: float = 0.0,
    architecture: Architecture | None = None,
) -> SefarModel:
    """Build an untrained model.

    Args:
        variant: a key of `VARIANTS`.
        classes: number of classes K.
        sample_frames: frames per temporal element, context last.
        layout: which moments of a clip they show; models that see joints put them in the order of time.
        size: side of the square frames in pixels; None for the variant's default. Not used by models that see joints.
        persons: number of persons P whose joints it sees; not used by models that see pictures.
        dropout: rate in the head.
        drop_path: rate of stochastic depth in the backbone.
        architecture: sizes to use instead of the variant's, for models without a named variant.

    Raises:
        ValueError: the variant is unknown, or `size` is not a multiple of the patch size.
    """
    if variant not in VARIANTS:
        raise ValueError(f"no model variant {variant!r}; choose one of {', '.join(VARIANTS)}")
    sizes = architecture or VARIANTS[variant]
    sampling = Sampling(sample_frames, layout)
    if sizes.stem == "joints":
        stem = create_joint_stem(persons, sizes.dim, sizes.bones, sampling)
        head: Head = SumHead(classes, dropout)
    else:
        stem = create_stem(sizes.stem, size or VARIANTS[variant].size or DEFAULT_SIZE, sizes.patch, sizes.dim)
        head = FusionHead(sampling.elements, sizes.dim, classes, dropout)
    backbone = TimeSformer(
        sample_frames, stem, dim=sizes.dim, depth=sizes.depth, heads=sizes.heads, drop_path=drop_path
    )
    return SefarModel(backbone, head)


def create_linear_model(
    backbone: BackboneName,
    classes: int,
    sample_frames: Sequence[int],
    *,
    persons: int = 1,
    dropout: float = DROPOUT,
) -> SefarModel:
    """Build a linear model on a frozen backbone, with random weights.

    Args:
        backbone: a key of `IMAGE_NETWORKS`, or ``coordinates``.
        classes: number of classes K.
        sample_frames: frames per temporal element.
        persons: number of persons P whose joints ``coordinates`` sees.
        dropout: rate in the Monte-Carlo samples.

    Raises:
        ValueError: the elements have different numbers of frames.
    """
    network = IMAGE_NETWORKS.get(backbone)
    body = Coordinates(sample_frames, persons) if network is None else FrameVectors(sample_frames, network)
    return SefarModel(body, LinearHead(body.elements, body.dim, classes, dropout)).eval()
