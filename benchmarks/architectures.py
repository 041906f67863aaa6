"""The networks of ``check_architectures.py``, with random weights and small inputs."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import architectures_by_hand as by_hand
from architectures_measured import Case
from torch import Tensor, nn

Size = int | tuple[int, int]


def cases() -> list[Case]:
    """List all networks."""
    return [
        *_timm_cases(),
        *_torchvision_cases(),
        *_open_clip_cases(),
        *_transformers_cases(),
        *_other_cases(),
        *_hand_written_cases(),
    ]


def _case(
    library: str,
    name: str,
    build: Callable[[], nn.Module],
    size: Size = 64,
    refused: str = "",
    **options: Any,
) -> Case:
    return Case(
        library=library,
        name=name,
        build=build,
        size=(size, size) if isinstance(size, int) else size,
        options=tuple(options.items()),
        refused=refused,
    )


# --------------------------------------------------------------------------------------
# timm
# --------------------------------------------------------------------------------------

# Name, size of the images, and arguments of ``timm.create_model``.
_TIMM: list[tuple[str, Size, dict[str, Any]]] = [
    ("convnext_atto", 64, {}),
    ("convnextv2_atto", 64, {}),
    ("edgenext_xx_small", 64, {}),
    ("tiny_vit_5m_224", 224, {"depths": (1, 1, 1, 1)}),
    ("davit_tiny", 64, {}),
    ("swin_tiny_patch4_window7_224", 64, {"img_size": 64, "window_size": 4}),
    ("swinv2_tiny_window8_256", 64, {"img_size": 64, "window_size": 4}),
    ("vit_tiny_patch16_224", 64, {"img_size": 64}),
    ("vit_tiny_patch16_224", (128, 64), {"img_size": (128, 64)}),
    ("deit_tiny_distilled_patch16_224", 64, {"img_size": 64}),
    ("vit_small_patch14_reg4_dinov2", 56, {"img_size": 56}),
    ("vit_base_patch16_siglip_224", 64, {"img_size": 64, "depth": 2}),
    ("eva02_tiny_patch14_224", 56, {"img_size": 56}),
    ("beit_base_patch16_224", 64, {"img_size": 64, "depth": 2}),
    ("efficientformer_l1", 224, {"depths": (1, 1, 1, 2)}),
    ("mobilevit_xxs", 64, {}),
    ("mobilevitv2_050", 64, {}),
    ("maxvit_rmlp_pico_rw_256", 64, {"img_size": 64, "depths": (1, 1, 2, 1)}),
    ("pvt_v2_b0", 64, {}),
    ("xcit_nano_12_p16_224", 64, {}),
    ("cait_xxs24_224", 64, {"img_size": 64, "depth": 6}),
    ("levit_128s", 224, {}),
    ("poolformer_s12", 64, {}),
    ("efficientnet_b0", 64, {}),
    ("mobilenetv3_small_050", 64, {}),
    ("mixer_s32_224", 128, {"img_size": 128}),
    ("gmlp_s16_224", 64, {"img_size": 64}),
    ("repvit_m0_9", 64, {}),
    ("fastvit_t8", 64, {}),
    ("starnet_s1", 64, {}),
    ("regnety_002", 64, {}),
    ("resnetv2_50", 64, {}),
    ("seresnet50", 64, {}),
    ("ghostnet_100", 64, {}),
    ("coat_lite_tiny", 64, {"img_size": 64}),
    ("efficientvit_b0", 64, {}),
    ("efficientvit_m0", 224, {}),
    ("focalnet_tiny_srf", 64, {}),
    ("hiera_tiny_224", 64, {"img_size": 64}),
    ("twins_svt_small", 64, {}),
    ("inception_next_atto", 64, {}),
    ("mambaout_femto", 64, {}),
    ("hgnetv2_b0", 64, {}),
    ("nfnet_l0", 64, {}),
    ("crossvit_tiny_240", 240, {}),
    ("nest_tiny", 224, {}),
    ("visformer_tiny", 224, {}),
    ("sequencer2d_s", 64, {}),
]


def _timm(name: str, arguments: dict[str, Any]) -> nn.Module:
    import timm

    network: nn.Module = timm.create_model(name, num_classes=0, **arguments)
    return network


def _convmixer() -> nn.Module:
    from timm.models.convmixer import ConvMixer

    return ConvMixer(dim=96, depth=4, kernel_size=7, patch_size=7, num_classes=0)


def _timm_cases() -> Iterator[Case]:
    yield _case("timm", "convmixer", _convmixer)
    for name, size, arguments in _TIMM:
        yield _case("timm", name, partial(_timm, name, arguments), size)


# --------------------------------------------------------------------------------------
# torchvision
# --------------------------------------------------------------------------------------

_TORCHVISION: list[tuple[str, Size, dict[str, Any]]] = [
    ("resnet18", 64, {}),
    ("densenet121", 64, {}),
    ("convnext_tiny", 64, {}),
    ("swin_t", 64, {}),
    ("swin_v2_t", 64, {}),
    ("vit_b_16", 64, {"image_size": 64}),
    ("efficientnet_v2_s", 64, {}),
    ("mobilenet_v3_small", 64, {}),
]


def _torchvision(name: str, arguments: dict[str, Any]) -> nn.Module:
    import torchvision

    network: nn.Module = getattr(torchvision.models, name)(**arguments)
    return network


def _maxvit() -> nn.Module:
    from torchvision.models import MaxVit

    return MaxVit(
        input_size=(64, 64),
        stem_channels=16,
        partition_size=4,
        block_channels=[16, 32, 48],
        block_layers=[1, 1, 1],
        head_dim=8,
        stochastic_depth_prob=0.0,
        num_classes=64,
    )


def _torchvision_cases() -> Iterator[Case]:
    yield _case("torchvision", "maxvit", _maxvit)
    for name, size, arguments in _TORCHVISION:
        yield _case("torchvision", name, partial(_torchvision, name, arguments), size)


# --------------------------------------------------------------------------------------
# open_clip
# --------------------------------------------------------------------------------------


def _open_clip_resnet() -> nn.Module:
    from open_clip.modified_resnet import ModifiedResNet

    network: nn.Module = ModifiedResNet(
        layers=[3, 4, 6, 3], output_dim=1024, heads=32, image_size=64, width=64
    )
    return network


def _open_clip_transformer(**arguments: Any) -> nn.Module:
    from open_clip.transformer import VisionTransformer

    network: nn.Module = VisionTransformer(
        image_size=64,
        patch_size=16,
        width=96,
        layers=3,
        heads=3,
        mlp_ratio=4,
        output_dim=64,
        **arguments,
    )
    return network


def _open_clip_cases() -> Iterator[Case]:
    yield _case("open_clip", "RN50 visual", _open_clip_resnet)
    yield _case("open_clip", "ViT visual", _open_clip_transformer)
    pooled = partial(
        _open_clip_transformer, attentional_pool=True, attn_pooler_queries=4
    )
    yield _case("open_clip", "CoCa visual", pooled)


# --------------------------------------------------------------------------------------
# transformers
# --------------------------------------------------------------------------------------

_SMALL = {
    "image_size": 64,
    "hidden_size": 48,
    "num_hidden_layers": 3,
    "num_attention_heads": 3,
    "intermediate_size": 96,
}
# Name, its configuration, arguments of the latter, and the entry with the embedding.
_TRANSFORMERS: list[tuple[str, str, dict[str, Any]]] = [
    ("ViTModel", "ViTConfig", {**_SMALL, "patch_size": 16}),
    ("DeiTModel", "DeiTConfig", {**_SMALL, "patch_size": 16}),
    ("Dinov2Model", "Dinov2Config", {**_SMALL, "patch_size": 16}),
    (
        "Dinov2WithRegistersModel",
        "Dinov2WithRegistersConfig",
        {**_SMALL, "patch_size": 16},
    ),
    ("DINOv3ViTModel", "DINOv3ViTConfig", {**_SMALL, "patch_size": 16}),
    ("CLIPVisionModel", "CLIPVisionConfig", {**_SMALL, "patch_size": 16}),
    ("SiglipVisionModel", "SiglipVisionConfig", {**_SMALL, "patch_size": 16}),
    ("BeitModel", "BeitConfig", {**_SMALL, "patch_size": 16}),
    (
        "SwinModel",
        "SwinConfig",
        {
            "image_size": 64,
            "embed_dim": 24,
            "depths": [1, 1, 1],
            "num_heads": [1, 2, 4],
            "window_size": 4,
        },
    ),
    (
        "ConvNextModel",
        "ConvNextConfig",
        {"hidden_sizes": [16, 32, 48, 64], "depths": [1, 1, 2, 1]},
    ),
    (
        "ConvNextV2Model",
        "ConvNextV2Config",
        {"hidden_sizes": [16, 32, 48, 64], "depths": [1, 1, 2, 1]},
    ),
    (
        "ResNetModel",
        "ResNetConfig",
        {
            "embedding_size": 16,
            "hidden_sizes": [16, 32, 64, 128],
            "depths": [1, 1, 1, 1],
        },
    ),
]


def _transformers(name: str, config: str, arguments: dict[str, Any]) -> nn.Module:
    import transformers

    made = getattr(transformers, config)(**arguments)
    network: nn.Module = getattr(transformers, name)(made)
    return network


def _transformers_cases() -> Iterator[Case]:
    for name, config, arguments in _TRANSFORMERS:
        build = partial(_transformers, name, config, arguments)
        yield _case("transformers", name, build, embedding="pooler_output")


# --------------------------------------------------------------------------------------
# Others
# --------------------------------------------------------------------------------------


def _facenet() -> nn.Module:
    from facenet_pytorch import InceptionResnetV1

    network: nn.Module = InceptionResnetV1(pretrained=None)
    return network


def _trunk_and_embedder() -> nn.Module:
    """The two networks of pytorch-metric-learning's examples, as they are combined."""
    import torchvision

    trunk = torchvision.models.resnet18()
    size = trunk.fc.in_features
    trunk.fc = nn.Identity()
    return nn.Sequential(trunk, MLP(size, 64))


class MLP(nn.Module):
    """The embedder: a linear layer after an activation."""

    def __init__(self, size: int, output: int) -> None:
        super().__init__()
        self.net = nn.Sequential(
            nn.Linear(size, size), nn.ReLU(), nn.Linear(size, output)
        )

    def forward(self, values: Tensor) -> Tensor:
        result: Tensor = self.net(values)
        return result


def _other_cases() -> Iterator[Case]:
    yield _case("facenet-pytorch", "InceptionResnetV1", _facenet, 96)
    yield _case("pytorch-metric-learning", "trunk and embedder", _trunk_and_embedder)


# The gates are in the head of an earlier layer only.
_OPTIONS: dict[str, dict[str, Any]] = {
    "AdaFace": {"embedding": 0},
    "hard gates": {"layer": "0"},
}


def _hand_written_cases() -> Iterator[Case]:
    for name, (build, size) in by_hand.NETWORKS.items():
        options = _OPTIONS.get(name, {})
        yield _case("by hand", name, build, size, **options)
