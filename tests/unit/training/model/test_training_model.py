from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from sefar_training.convert import release_name
from sefar_training.model import FrameNormalizer, FusionHead, SefarModel, TimeSformer, create_model
from sefar_training.model.stem import create_stem

FRAMES = (2, 2, 4)


@pytest.mark.parametrize("sample_frames", [(2, 2, 4), (1, 1), (2, 3), (1, 2, 3, 2)])
def test_output_shapes_for_any_elements(small_model, sample_frames) -> None:
    model = small_model(sample_frames)
    out = model(torch.randn(3, sum(sample_frames), 3, 32, 32))
    assert out.logits.shape == (3, 5)
    assert out.embedding.shape == (3, 256)
    assert out.tokens.shape == (3, len(sample_frames), 24)


def test_wrong_frame_count_names_what_is_needed(small_model) -> None:
    with pytest.raises(ValueError, match=r"clips have 7 frames.*\(2, 2, 4\) needs 8"):
        small_model()(torch.randn(1, 7, 3, 32, 32))


@pytest.mark.parametrize(("frame", "element"), [(0, 0), (1, 0), (2, 1), (3, 1), (4, 2), (7, 2)])
def test_elements_do_not_leak_into_each_other(small_model, frame: int, element: int) -> None:
    model = small_model()
    frames = torch.randn(2, 8, 3, 32, 32)
    changed = frames.clone()
    changed[:, frame] += 1
    before, after = model.backbone(frames), model.backbone(changed)
    moved = (before != after).flatten(2).any(-1)
    assert moved.tolist() == [[e == element for e in range(3)]] * 2


def test_temporal_order_matters_once_temporal_attention_is_live(small_model) -> None:
    frames = torch.randn(2, 8, 3, 32, 32)
    reversed_context = frames[:, [0, 1, 2, 3, 7, 6, 5, 4]]
    live = small_model(live=True)
    assert (live.backbone(frames)[:, 2] - live.backbone(reversed_context)[:, 2]).abs().max() > 1e-3
    # Without it a frame is told from another only by its time embedding.
    still = small_model(live=False)
    for embedding in still.backbone.time_embed:
        torch.nn.init.zeros_(embedding)
    assert torch.allclose(still.backbone(frames), still.backbone(reversed_context), atol=1e-5)


def test_temporal_projection_starts_at_zero() -> None:
    for block in create_model("tiny", 3).backbone.blocks:
        assert not block.temporal_fc.weight.any()
        assert not block.temporal_fc.bias.any()


def test_fused_and_plain_attention_agree(small_model) -> None:
    model = small_model()
    frames = torch.randn(2, 8, 3, 32, 32)
    model.backbone.set_fused_attention(True)
    fused = model(frames)
    model.backbone.set_fused_attention(False)
    for a, b in zip(fused, model(frames), strict=True):
        assert torch.allclose(a, b, atol=1e-5)


def test_class_tokens_alone_equal_the_whole_last_layer(small_model) -> None:
    backbone = small_model().backbone
    cls_BED, x_BFND = torch.randn(2, 3, 24), torch.randn(2, 8, 4, 24)
    for fused in (True, False):
        backbone.set_fused_attention(fused)
        whole, _ = backbone.blocks[-1](cls_BED, x_BFND)
        assert torch.allclose(backbone.blocks[-1].forward_class_tokens(cls_BED, x_BFND), whole, atol=1e-5)


def test_backbone_and_head_can_be_called_separately(small_model) -> None:
    model = small_model()
    frames = torch.randn(2, 8, 3, 32, 32)
    embedding, logits = model.head(model.backbone(frames))
    out = model(frames)
    assert torch.equal(out.embedding, embedding)
    assert torch.equal(out.logits, logits)


def test_dropout_is_between_embedding_and_classifier_only(small_model) -> None:
    model = small_model().train()
    frames = torch.randn(4, 8, 3, 32, 32)
    first, second = model(frames), model(frames)
    assert torch.equal(first.embedding, second.embedding)
    assert not torch.equal(first.logits, second.logits)


def test_frame_features_of_a_fresh_model_depend_on_their_frame_alone(small_model) -> None:
    model = small_model(live=False)
    # The class token is shared by an element's frames; without it in attention's way each frame is alone.
    frames = torch.randn(1, 8, 3, 32, 32)
    changed = frames.clone()
    changed[:, 5] += 1
    before, after = model.backbone.frame_features(frames), model.backbone.frame_features(changed)
    assert before.shape == (1, 8, 24)
    assert torch.equal(before[:, :4], after[:, :4])
    assert not torch.equal(before[:, 5], after[:, 5])


def test_parameters_are_those_of_the_release(shared_data: Path) -> None:
    official = json.loads((shared_data / "official" / "state_dict_small.json").read_text())
    ours = create_model("small", 99).state_dict()
    assert official == {release_name(k): list(v.shape) for k, v in ours.items()}


def test_computes_what_the_release_computes(shared_data: Path) -> None:
    folder = shared_data / "official"
    weights = torch.load(folder / "tiny_2_2_4.pyth", weights_only=True)["model_state"]
    expected = np.load(folder / "tiny_2_2_4.npz")
    backbone = TimeSformer(FRAMES, create_stem("patch", 224, 16, 48), dim=48, depth=2, heads=3)
    model = SefarModel(backbone, FusionHead(3, 48, 7)).eval()
    model.load_state_dict({name: weights[release_name(name)] for name in model.state_dict()})
    with torch.inference_mode():
        out = model(FrameNormalizer((0.45,) * 3, (0.225,) * 3)(torch.from_numpy(expected["frames"])))
    for name in ("tokens", "embedding", "logits"):
        assert np.abs(getattr(out, name).numpy() - expected[name]).max() < 1e-4


def test_tiny_has_its_intended_size() -> None:
    parameters = sum(p.numel() for p in create_model("tiny", 34).parameters())
    assert 1.2e6 < parameters < 2.2e6


def test_normalizer_is_mean_and_std_on_the_unit_range() -> None:
    frames = torch.arange(2 * 1 * 4 * 4 * 3, dtype=torch.uint8).reshape(2, 1, 4, 4, 3)
    mean, std = (0.1, 0.2, 0.3), (0.5, 0.6, 0.7)
    expected = (frames.permute(0, 1, 4, 2, 3) / 255 - torch.tensor(mean)[:, None, None]) / torch.tensor(std)[
        :, None, None
    ]
    assert torch.allclose(FrameNormalizer(mean, std)(frames), expected, atol=1e-6)


def test_unknown_variant_is_named() -> None:
    with pytest.raises(ValueError, match="no model variant 'huge'; choose one of tiny, small, base"):
        create_model("huge", 3)  # type: ignore[arg-type]


def test_sizes_that_do_not_divide_are_named() -> None:
    with pytest.raises(ValueError, match="size 60 is not a multiple of the patch size 16"):
        create_model("tiny", 3, size=60)
    with pytest.raises(ValueError, match="stride 16, not 8"):
        create_stem("conv", 64, 8, 32)


def test_frozen_stem_does_not_change_in_train_mode() -> None:
    model = create_model("tiny", 5)
    model.backbone.freeze_stem()
    before = {name: value.clone() for name, value in model.backbone.patch_embed.state_dict().items()}
    optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=0.1)
    model.train()
    assert model.backbone.blocks.training and not model.backbone.patch_embed.training
    model(torch.randn(2, 8, 3, 64, 64)).logits.sum().backward()
    optimizer.step()
    after = model.backbone.patch_embed.state_dict()
    assert all(torch.equal(value, after[name]) for name, value in before.items())
    assert model.eval().train().backbone.patch_embed.training is False


def test_class_attention_is_what_the_last_layer_uses(small_model) -> None:
    model = small_model()
    frames = torch.randn(2, 8, 3, 32, 32)
    attention = model.backbone.class_attention(frames)
    assert attention.shape == (2, 8, 4)
    assert (attention >= 0).all() and (attention.sum(dim=2) < 1).all()
    # Without queries and keys attention is even over the class token and the four patches.
    last = model.backbone.blocks[-1].attn
    with torch.no_grad():
        last.qkv.weight[: 2 * 24] = 0
        last.qkv.bias[: 2 * 24] = 0
    assert torch.allclose(model.backbone.class_attention(frames), torch.full((2, 8, 4), 1 / 5), atol=1e-6)
