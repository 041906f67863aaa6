"""Modules that stand in for libraries of re-identification and face recognition.

They have the names, arguments, range of the input and form of the output that the
recipes of the page "Your model" rely on; their networks are small. Each is a set of
files, by the recipe's heading.
"""

from __future__ import annotations

import json
from typing import Any

SMALL = """
import torch
from torch import nn

class Small(nn.Module):
    def __init__(self, features):
        super().__init__()
        self.conv = nn.Conv2d(3, features, 4, stride=4)
        self.bottleneck = nn.BatchNorm1d(features)

    def pooled(self, images):
        return torch.relu(self.conv(images)).mean((2, 3))
"""

CONFIG = """
from types import SimpleNamespace

class Config(SimpleNamespace):
    def merge_from_file(self, path):
        assert open(path).read()
    def merge_from_list(self, values):
        for key, value in zip(values[::2], values[1::2]):
            setattr(self, key, value)
"""

TRANSREID = """
from .small import Small
import torch

class Model(Small):
    def forward(self, x, label=None, cam_label=None, view_label=None):
        assert not self.training
        return RESULT
    def load_param(self, path):
        state = torch.load(path, weights_only=True)
        for name in state:
            self.state_dict()[name.replace("module.", "")].copy_(state[name])

def make_model(cfg, num_class, camera_num, view_num, **other):
    assert (cfg.merged, num_class, camera_num, view_num, other) == EXPECTED
    return Model(8).eval()
"""


def transreid(folder: str, result: str, merged: dict[str, Any], **other: Any) -> Any:
    """Write the modules of repositories that have grown out of TransReID."""
    config = CONFIG + "\ncfg = Config()\nConfig.merged = property(vars)\n"
    expected = repr((merged, 751, 0, 0, other))
    code = TRANSREID.replace("RESULT", result).replace("EXPECTED", expected)
    return {"config.py": config, "model/small.py": SMALL, folder: code}


STAND_INS: dict[str, dict[str, str]] = {
    "torchreid": {
        "torchreid/__init__.py": "",
        "torchreid/small.py": SMALL,
        "torchreid/models.py": """
from .small import Small
from torch import nn
class Net(Small):
    def __init__(self, num_classes):
        super().__init__(512)
        self.classifier = nn.Linear(512, num_classes)
    def forward(self, x):
        v = self.bottleneck(self.pooled(x))
        return self.classifier(v) if self.training else v
def build_model(name, num_classes, loss="softmax", pretrained=True, use_gpu=True):
    assert (name, pretrained) == ("osnet_x1_0", False)
    return Net(num_classes)
""",
    },
    "fast-reid": {
        "fastreid/__init__.py": "",
        "fastreid/config.py": CONFIG + "\ndef get_cfg(): return Config()\n",
        "fastreid/utils/__init__.py": "",
        "fastreid/utils/checkpoint.py": """
import torch
class Checkpointer:
    def __init__(self, model): self.model = model
    def load(self, path):
        self.model.load_state_dict(torch.load(path, weights_only=True)["model"])
""",
        "fastreid/small.py": SMALL,
        "fastreid/modeling.py": """
import torch
from .small import Small
class Baseline(Small):
    def __init__(self):
        super().__init__(8)
        mean, std = [123.675, 116.28, 103.53], [58.395, 57.12, 57.375]
        self.register_buffer("pixel_mean", torch.tensor(mean).view(1, 3, 1, 1), False)
        self.register_buffer("pixel_std", torch.tensor(std).view(1, 3, 1, 1), False)
    def forward(self, images):
        images = images.sub_(self.pixel_mean).div_(self.pixel_std)
        return self.bottleneck(self.pooled(images))
def build_model(cfg):
    assert vars(cfg) == {"MODEL.DEVICE": "cpu", "MODEL.BACKBONE.PRETRAIN": False}
    return Baseline()
""",
    },
    "TransReID": {
        **transreid(
            "model/__init__.py",
            "self.bottleneck(self.pooled(x))",
            {"MODEL.PRETRAIN_CHOICE": "no"},
        ),
    },
    "CLIP-ReID": {
        "model/__init__.py": "",
        **transreid(
            "model/make_model_clipreid.py",
            "torch.cat([self.pooled(x), self.bottleneck(self.pooled(x))], dim=1)",
            {},
        ),
    },
    "SOLIDER": {
        **transreid(
            "model/__init__.py",
            "(self.bottleneck(self.pooled(x)), [x, x])",
            {"MODEL.PRETRAIN_PATH": ""},
            semantic_weight=0.2,
        ),
    },
    "AGW": {
        "ReID-Survey/modeling/__init__.py": "",
        "ReID-Survey/modeling/small.py": SMALL,
        "ReID-Survey/modeling/baseline.py": """
from .small import Small
from torch import nn
class Baseline(Small):
    def __init__(self, num_classes, last_stride, model_path, model_name, gem_pool,
                 pretrain_choice):
        assert (last_stride, model_name, gem_pool) == (1, "resnet50_nl", "on")
        assert pretrain_choice != "imagenet"
        super().__init__(8)
        self.classifier = nn.Linear(8, num_classes, bias=False)
    def forward(self, x):
        feat = self.bottleneck(self.pooled(x))
        return (self.classifier(feat), feat) if self.training else feat
""",
    },
    "insightface": {
        "insightface/recognition/arcface_torch/backbones/__init__.py": "",
        "insightface/recognition/arcface_torch/backbones/small.py": SMALL,
        "insightface/recognition/arcface_torch/backbones/iresnet.py": """
from .small import Small
from torch import nn
class IResNet(Small):
    def __init__(self, num_features=512):
        super().__init__(8)
        self.fc = nn.Linear(8 * 28 * 28, num_features)
        self.features = nn.BatchNorm1d(num_features)
    def forward(self, x):
        return self.features(self.fc(self.conv(x).flatten(1)))
def iresnet50(pretrained=False, progress=True, **kwargs):
    return IResNet(**kwargs)
""",
    },
    "AdaFace": {
        "AdaFace/small.py": SMALL,
        "AdaFace/net.py": """
import torch
from small import Small
class Backbone(Small):
    def forward(self, x):
        assert x.shape[1:] == (3, 112, 112)
        feature = self.bottleneck(self.pooled(x))
        norm = torch.norm(feature, 2, 1, True)
        return torch.div(feature, norm), norm
def build_model(model_name="ir_50"):
    assert model_name == "ir_50"
    return Backbone(16)
""",
    },
    "facenet-pytorch": {
        "facenet_pytorch/__init__.py": """
from .small import Small
from torch import nn
class InceptionResnetV1(Small):
    def __init__(self, pretrained=None, classify=False, num_classes=None,
                 dropout_prob=0.6, device=None):
        assert pretrained == "vggface2"
        super().__init__(512)
    def forward(self, x):
        return nn.functional.normalize(self.bottleneck(self.pooled(x)), p=2, dim=1)
""",
        "facenet_pytorch/small.py": SMALL,
    },
    "torch.hub": {
        "facebookresearch/dino/hubconf.py": """
dependencies = ["torch"]
import timm
def dino_resnet50(pretrained=True):
    assert not pretrained
    network = timm.create_model("test_resnet", num_classes=0)
    del network.pretrained_cfg
    return network
""",
    },
    "EdgeFace": {
        "otroshi/edgeface/hubconf.py": """
dependencies = ["torch", "timm"]
import timm
from torch import nn
class TimmFRWrapperV2(nn.Module):
    def __init__(self):
        super().__init__()
        self.model = timm.create_model("edgenext_xx_small", num_classes=512)
    def forward(self, x):
        return self.model(x)
def edgeface_xs_gamma_06(pretrained=True, **kwargs):
    assert not pretrained
    return TimmFRWrapperV2()
""",
    },
    "MiewID": {
        "conservationxlabs/miewid-msv3/config.json": json.dumps(
            {
                "model_type": "miewid",
                "auto_map": {
                    "AutoConfig": "modeling_miewid.MiewIdNetConfig",
                    "AutoModel": "modeling_miewid.MiewIdNet",
                },
            }
        ),
        "conservationxlabs/miewid-msv3/modeling_miewid.py": """
import torch
from torch import nn
from transformers import PretrainedConfig, PreTrainedModel
class MiewIdNetConfig(PretrainedConfig):
    model_type = "miewid"
class MiewIdNet(PreTrainedModel):
    config_class = MiewIdNetConfig
    def __init__(self, config):
        super().__init__(config)
        self.conv = nn.Conv2d(3, 16, 8, stride=8)
        self.bn = nn.BatchNorm1d(16)
        self.post_init()
    def forward(self, x, label=None):
        return self.bn(torch.relu(self.conv(x)).mean((2, 3)))
""",
    },
}
NAMES = (
    *("backbones", "config", "facenet_pytorch", "fastreid", "model", "modeling"),
    *("net", "small", "torchreid"),
)
