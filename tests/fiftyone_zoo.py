"""Small models of FiftyOne's own classes, with random weights and local files.

Each function returns a deployment as a manifest of the zoo has it: the class of the
model, and its configuration.
"""

from __future__ import annotations

import gzip
import importlib
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import eta.core.utils as etau
import fiftyone as fo
import torch
import transformers
from fiftyone.utils.clip.model import CLIP
from PIL import Image
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Whitespace

Deployment = tuple[str, dict[str, Any]]

SQUARE = {"height": 32, "width": 32}
VIT = {
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 48,
    "image_size": 32,
    "patch_size": 8,
}
CLIP_CONFIG = {
    "entrypoint_fcn": "",
    "output_processor_cls": "fiftyone.utils.torch.ClassifierOutputProcessor",
    "image_size": [32, 32],
    "image_mean": [0.48145466, 0.4578275, 0.40821073],
    "image_std": [0.26862954, 0.26130258, 0.27577711],
    "embeddings_layer": "visual",
    "text_prompt": "A photo of",
    "classes": ["cat", "dog"],
}


def load(deployment: Deployment, **options: Any) -> Any:
    """Build a model as FiftyOne's zoo does."""
    kind, config = deployment
    cls = etau.get_class(kind)
    config_cls = etau.get_class(f"{kind}Config")
    return cls(config_cls({**config, "device": "cpu", **options}))


# --------------------------------------------------------------------------------------
# CLIP and open_clip
# --------------------------------------------------------------------------------------


def clip(folder: Path) -> Deployment:
    """FiftyOne's CLIP, with a vocabulary of single letters."""
    folder.mkdir(exist_ok=True)
    torch.manual_seed(0)
    network = CLIP(24, 32, 2, 64, 8, 16, 600, 64, 1, 1).eval()
    for block in network.visual.transformer.resblocks:
        # What the class token reads from the patches outweighs what it starts with.
        block.attn.out_proj.weight.data *= 8
    inputs = torch.zeros(1, 3, 32, 32), torch.zeros(1, 16, dtype=torch.int)
    # The zoo's file is a TorchScript archive, of which only the weights are read.
    traced = torch.jit.trace(network, inputs, check_trace=False)
    traced.save(str(folder / "clip.pt"))
    with gzip.open(folder / "vocabulary.txt.gz", "wt") as file:
        file.write("#version\na b\nc d</w>\n")
    fo.config.model_zoo_dir = str(folder)
    return "fiftyone.utils.clip.TorchCLIPModel", {
        **CLIP_CONFIG,
        "context_length": 16,
        "tokenizer_base_filename": "vocabulary.txt.gz",
        "tokenizer_base_url": "not read, because the file exists",
        "model_path": str(folder / "clip.pt"),
    }


def open_clip(folder: Path) -> Deployment:
    """A small architecture of open_clip, registered under a name."""
    import open_clip as library

    architecture = {
        "embed_dim": 24,
        "vision_cfg": {
            "image_size": 32,
            "layers": 2,
            "width": 64,
            "patch_size": 8,
            "head_width": 32,
        },
        "text_cfg": {"width": 32, "heads": 2, "layers": 1},
    }
    configs = folder / "open_clip"
    configs.mkdir(parents=True)
    (configs / "sfam-tiny.json").write_text(json.dumps(architecture))
    library.add_model_config(configs)
    return "fiftyone.utils.open_clip.TorchOpenClipModel", {
        **CLIP_CONFIG,
        "clip_model": "sfam-tiny",
        "pretrained": "",
    }


# --------------------------------------------------------------------------------------
# Transformers
# --------------------------------------------------------------------------------------


def saved(folder: Path, network: Any, processor: Any) -> str:
    """Save a network and its processor where transformers find them."""
    network.save_pretrained(folder)
    processor.save_pretrained(folder)
    return str(folder)


def classifier(folder: Path, network: Any, processor: Any, **config: Any) -> Deployment:
    return "fiftyone.utils.transformers.FiftyOneTransformerForImageClassification", {
        "name_or_path": saved(folder, network, processor),
        **config,
    }


def vit(folder: Path, **config: Any) -> Deployment:
    torch.manual_seed(0)
    network = transformers.ViTForImageClassification(
        transformers.ViTConfig(**VIT, num_labels=3)
    )
    processor = transformers.ViTImageProcessor(size=SQUARE)
    return classifier(folder, network, processor, **config)


def convnext(folder: Path, **config: Any) -> Deployment:
    torch.manual_seed(0)
    network = transformers.ConvNextForImageClassification(
        transformers.ConvNextConfig(
            hidden_sizes=[8, 16, 24, 32], depths=[1, 1, 1, 1], num_labels=3
        )
    )
    processor = transformers.ConvNextImageProcessor(size={"shortest_edge": 64})
    return classifier(folder, network, processor, channels_last=False, **config)


def efficientnet(folder: Path, **config: Any) -> Deployment:
    torch.manual_seed(0)
    network = transformers.EfficientNetForImageClassification(
        transformers.EfficientNetConfig(
            width_coefficient=0.25,
            depth_coefficient=0.2,
            image_size=64,
            num_labels=3,
            hidden_dim=320,
            initializer_range=0.3,
        )
    )
    size = {"height": 64, "width": 64}
    processor = transformers.EfficientNetImageProcessor(
        size={"height": 80, "width": 80}, crop_size=size, do_center_crop=True
    )
    return classifier(folder, network, processor, channels_last=False, **config)


def swin(folder: Path, **config: Any) -> Deployment:
    torch.manual_seed(0)
    network = transformers.Swinv2ForImageClassification(
        transformers.Swinv2Config(
            embed_dim=16,
            depths=[1, 1],
            num_heads=[2, 2],
            window_size=4,
            image_size=32,
            patch_size=4,
            num_labels=3,
        )
    )
    processor = transformers.ViTImageProcessor(size=SQUARE)
    return classifier(folder, network, processor, **config)


def dinov3(folder: Path, **config: Any) -> Deployment:
    torch.manual_seed(0)
    network = transformers.DINOv3ViTModel(
        transformers.DINOv3ViTConfig(**VIT, num_register_tokens=2)
    )
    processor = transformers.DINOv3ViTImageProcessor(size=SQUARE)
    return "fiftyone.utils.transformers.FiftyOneTransformer", {
        "name_or_path": saved(folder, network, processor),
        **config,
    }


def tokenizer() -> Any:
    words = ["<pad>", "<unk>", "</s>", "cat", "dog"]
    vocabulary = {word: index for index, word in enumerate(words)}
    made = Tokenizer(WordLevel(vocabulary, unk_token="<unk>"))
    made.pre_tokenizer = Whitespace()
    return transformers.PreTrainedTokenizerFast(
        tokenizer_object=made,
        pad_token="<pad>",
        unk_token="<unk>",
        eos_token="</s>",
    )


TEXT = {
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "vocab_size": 16,
    "max_position_embeddings": 16,
    "bos_token_id": 1,
    "eos_token_id": 2,
}
ZERO_SHOT = (
    "fiftyone.utils.transformers.FiftyOneZeroShotTransformerForImageClassification"
)


def siglip(folder: Path, **config: Any) -> Deployment:
    torch.manual_seed(0)
    network = transformers.SiglipModel(
        transformers.SiglipConfig(vision_config=VIT, text_config=TEXT)
    )
    images = transformers.SiglipImageProcessor(size=SQUARE)
    return ZERO_SHOT, {
        "name_or_path": saved(
            folder, network, transformers.SiglipProcessor(images, tokenizer())
        ),
        "classes": ["cat", "dog"],
        "transformers_processor_kwargs": {"padding": "max_length", "max_length": 16},
        **config,
    }


def transformers_clip(folder: Path, **config: Any) -> Deployment:
    torch.manual_seed(0)
    network = transformers.CLIPModel(
        transformers.CLIPConfig(vision_config=VIT, text_config=TEXT, projection_dim=24)
    )
    images = transformers.CLIPImageProcessor(
        size={"shortest_edge": 32}, crop_size=SQUARE
    )
    return ZERO_SHOT, {
        "name_or_path": saved(
            folder, network, transformers.CLIPProcessor(images, tokenizer())
        ),
        "classes": ["cat", "dog"],
        "transformers_processor_kwargs": {"padding": True},
        **config,
    }


# --------------------------------------------------------------------------------------
# DINOv2, from a repository of torch.hub
# --------------------------------------------------------------------------------------

HUB = """
dependencies = ["torch"]

import torch
from torch import nn


class Block(nn.Module):
    def __init__(self, width, heads):
        super().__init__()
        self.heads = heads
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv, self.proj = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.fc1, self.fc2 = nn.Linear(width, 2 * width), nn.Linear(2 * width, width)
        self.scale1 = nn.Parameter(torch.ones(width))
        self.scale2 = nn.Parameter(torch.ones(width))

    def forward(self, tokens):
        shape = tokens.shape
        qkv = self.qkv(self.norm1(tokens)).unflatten(2, (3, self.heads, -1))
        q, k, v = qkv.permute(2, 0, 3, 1, 4)
        mixed = nn.functional.scaled_dot_product_attention(q, k, v)
        mixed = self.proj(mixed.transpose(1, 2).reshape(shape))
        tokens = tokens + self.scale1 * mixed
        hidden = nn.functional.gelu(self.fc1(self.norm2(tokens)))
        return tokens + self.scale2 * self.fc2(hidden)


class PatchEmbed(nn.Module):
    def __init__(self, patch, width):
        super().__init__()
        self.proj = nn.Conv2d(3, width, patch, patch)

    def forward(self, images):
        return self.proj(images).flatten(2).transpose(1, 2)


class DinoVisionTransformer(nn.Module):
    def __init__(self, patch=14, width=32, depth=2, heads=2, registers=0):
        super().__init__()
        self.patch_embed = PatchEmbed(patch, width)
        self.patch_size = patch
        self.cls_token = nn.Parameter(1e-6 * torch.randn(1, 1, width))
        self.register_tokens = nn.Parameter(1e-6 * torch.randn(1, registers, width))
        self.pos_embed = nn.Parameter(0.02 * torch.randn(1, 1 + 4 * 4, width))
        self.blocks = nn.ModuleList(Block(width, heads) for _ in range(depth))
        self.norm = nn.LayerNorm(width)
        self.head = nn.Identity()

    def positions(self, height, width):
        grid = self.pos_embed[:, 1:].unflatten(1, (4, 4)).permute(0, 3, 1, 2)
        size = (height // self.patch_size, width // self.patch_size)
        grid = nn.functional.interpolate(grid, size=size, mode="bicubic")
        return torch.cat([self.pos_embed[:, :1], grid.flatten(2).transpose(1, 2)], 1)

    def forward(self, images):
        tokens = self.patch_embed(images)
        tokens = torch.cat([self.cls_token.expand(len(images), -1, -1), tokens], 1)
        tokens = tokens + self.positions(*images.shape[2:])
        extra = self.register_tokens.expand(len(images), -1, -1)
        tokens = torch.cat([tokens[:, :1], extra, tokens[:, 1:]], 1)
        for block in self.blocks:
            tokens = block(tokens)
        return self.head(self.norm(tokens)[:, 0])


def dinov2_tiny(registers=0):
    torch.manual_seed(0)
    return DinoVisionTransformer(registers=registers)
"""


def dinov2(folder: Path, registers: int = 0) -> Deployment:
    """The zoo's configuration of DINOv2, with a repository on this machine."""
    folder.mkdir(exist_ok=True)
    (folder / "hubconf.py").write_text(HUB)
    return "fiftyone.utils.torch.TorchImageModel", {
        "entrypoint_fcn": "fiftyone.utils.torch.load_torch_hub_raw_model",
        "entrypoint_args": {
            "repo_or_dir": str(folder),
            "model": "dinov2_tiny",
            "source": "local",
            "registers": registers,
        },
        "image_patch_size": 14,
        "image_min_dim": 14,
        "embeddings_layer": "head",
    }


# --------------------------------------------------------------------------------------
# PE-Core, whose library is not on PyPI
# --------------------------------------------------------------------------------------

PERCEPTION = '''
import torch
from torch import nn


class VisionTransformer(nn.Module):
    """What FiftyOne uses of perception_models' encoder: attention pooling of tokens."""

    def __init__(self, width=32, patch=8, image_size=32):
        super().__init__()
        torch.manual_seed(0)
        self.image_size = image_size
        self.conv1 = nn.Conv2d(3, width, patch, patch, bias=False)
        self.block = nn.TransformerEncoderLayer(
            width, 2, 48, dropout=0.0, activation="gelu", batch_first=True
        )
        self.ln_post = nn.LayerNorm(width)
        self.probe = nn.Parameter(torch.randn(1, 1, width))
        self.attn = nn.MultiheadAttention(width, 2, batch_first=True)
        self.proj = nn.Parameter(torch.randn(width, 16))

    @classmethod
    def from_config(cls, name, pretrained=False, checkpoint_path=None):
        assert name == "PE-Core-B16-224"
        return cls()

    def forward_features(self, x, norm=False, layer_idx=-1, strip_cls_token=False):
        x = self.block(self.conv1(x).flatten(2).transpose(1, 2))
        return self.ln_post(x) if norm else x

    def _pool(self, x):
        probe = self.probe.expand(len(x), -1, -1)
        return self.attn(probe, x, x, need_weights=False)[0].squeeze(1)

    def forward(self, x):
        return self._pool(self.forward_features(x, norm=True)) @ self.proj
'''

PERCEPTION_TRANSFORMS = """
from torchvision import transforms as T


def get_image_transform(image_size):
    return T.Compose([
        T.Resize((image_size, image_size)),
        T.Lambda(lambda image: image.convert("RGB")),
        T.ToTensor(),
        T.Normalize([0.5] * 3, [0.5] * 3),
    ])
"""


def perception(folder: Path, **config: Any) -> Any:
    """FiftyOne's PEVisionEncoder on a stand-in of its library below ``folder``.

    The folder has to be on the import path.
    """
    encoder = folder / "perception_models" / "core" / "vision_encoder"
    encoder.mkdir(parents=True)
    for package in (encoder, encoder.parent, encoder.parent.parent):
        (package / "__init__.py").touch()
    (encoder / "pe.py").write_text(PERCEPTION)
    (encoder / "transforms.py").write_text(PERCEPTION_TRANSFORMS)
    metadata = folder / "perception_models-1.0.dist-info"
    metadata.mkdir()
    text = "Metadata-Version: 2.1\nName: perception_models\nVersion: 1.0\n"
    (metadata / "METADATA").write_text(text)
    importlib.invalidate_caches()
    pe = importlib.import_module("fiftyone.utils.pe")

    class Local(pe.PEVisionEncoder):  # type: ignore[misc, name-defined]
        def _download_model(self, config: Any) -> None:
            """The weights are random."""

    # As in the zoo's manifest.
    given = {"entrypoint_args": {"name": "PE-Core-B16-224"}, "device": "cpu", **config}
    return Local(pe.PEVisionEncoderConfig(given))


# --------------------------------------------------------------------------------------
# A manifest of the owner's
# --------------------------------------------------------------------------------------


@contextmanager
def own_manifest(folder: Path, deployments: dict[str, Deployment]) -> Iterator[None]:
    """Add models to FiftyOne's zoo for a while."""
    models = [
        {
            "base_name": name,
            "base_filename": None,
            "description": f"the {name}",
            "default_deployment_config_dict": {"type": kind, "config": config},
            "tags": ["torch", "embeddings"],
            "date_added": "2024-01-01 00:00:00",
        }
        for name, (kind, config) in deployments.items()
    ]
    file = folder / "manifest.json"
    file.write_text(json.dumps({"models": models}))
    before = fo.config.model_zoo_manifest_paths
    fo.config.model_zoo_manifest_paths = [str(file)]
    try:
        yield
    finally:
        fo.config.model_zoo_manifest_paths = before


def picture(seed: int, size: tuple[int, int] = (60, 90)) -> Image.Image:
    """Random blocks of color."""
    generator = torch.Generator().manual_seed(seed)
    blocks = torch.randint(0, 256, (6, 4, 3), generator=generator, dtype=torch.uint8)
    return Image.fromarray(blocks.numpy()).resize(size, Image.Resampling.BICUBIC)
