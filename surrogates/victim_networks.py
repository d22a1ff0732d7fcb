"""Two more networks to be trained from scratch as victims: a small transformer, and a plain stack of convolutions."""

from __future__ import annotations

from torch import nn

__all__ = ["build_small_vit", "build_vgg11"]

PATCHES = 8
"""Patches a side, whatever the resolution, so that the cost does not grow with it."""


def build_small_vit(num_classes: int, *, resolution: int, width: int = 128, depth: int = 4) -> nn.Module:
    """A pre-norm transformer (Dosovitskiy et al. 2021) on 8 x 8 patches: 4 layers, 128 wide, 4 heads, 0.8 M parameters.

    Patches are 4 px at 32 px and 8 px at 64 px; features are averaged over the patches, as suits little data (Beyer
    et al. 2022, "Better plain ViT baselines"). No dropout: the arms of a comparison train for few steps.
    """
    from timm.models.vision_transformer import VisionTransformer

    patch = max(1, resolution // PATCHES)
    return VisionTransformer(
        img_size=resolution, patch_size=patch, num_classes=num_classes, embed_dim=width, depth=depth, num_heads=4,
        mlp_ratio=2.0, global_pool="avg", class_token=False, dynamic_img_pad=True,
    )  # fmt: skip


def build_vgg11(num_classes: int) -> nn.Module:
    """VGG-11 with batch norm (Simonyan & Zisserman 2015, configuration A) and one linear layer, as usual at 32 px.

    A plain stack without shortcuts: of another family than residual networks.
    """
    from torchvision.models import vgg11_bn

    features = vgg11_bn(weights=None).features
    return nn.Sequential(features, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(512, num_classes))
