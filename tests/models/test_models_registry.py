"""The owner's registry file: what it can say, and what each mistake is called."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from compat import needs_checkpoints
from fiftyone_sfam.errors import ModelError
from fiftyone_sfam.models import list_models, load_model
from fiftyone_sfam.models.registered import load_callable
from fiftyone_sfam.models.registry import ModelInfo, read_registry, registry_path
from fiftyone_sfam.network.preprocess import Preprocessing

NETWORK = """
import torch
from torch import nn
{imports}

class Net(nn.Module):
    def __init__(self, width=4, bias=True):
        super().__init__()
        self.conv = nn.Conv2d(3, width, 3, padding=1, stride=2)
        self.fc = nn.Linear(width, 5, bias=bias)
        self.classifier = nn.Linear(5, 2)

    def forward(self, images):
        embedding = self.fc(torch.relu(self.conv(images)).mean((2, 3)))
        return {{"embedding": embedding, "logits": self.classifier(embedding)}}

class Build:
    net = Net

def preprocessing():
    from torchvision import transforms as T
    return T.Compose([T.Resize(8), T.CenterCrop(8), T.ToTensor()])

def fails():
    raise RuntimeError("no luck\\nat all")

def a_list():
    return [1]

CONSTANT = 3
"""
ENTRY = {"factory": "net.py:Net", "preprocess": {"size": [8, 8]}}


@pytest.fixture
def registry(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Write a registry file beside a file with a network."""
    file = tmp_path / "models.json"
    monkeypatch.setenv("FIFTYONE_SFAM_MODELS", str(file))
    (tmp_path / "net.py").write_text(NETWORK.format(imports=""))

    def write(models: Any = None, **entry: Any) -> Path:
        content = {"models": models if models is not None else {"mine": entry}}
        file.write_text(json.dumps(content), encoding="utf-8")
        return file

    return write


def image() -> Image.Image:
    pixels = torch.randint(
        0, 256, (12, 8, 3), generator=torch.Generator().manual_seed(1)
    )
    return Image.fromarray(pixels.to(torch.uint8).numpy())


# --------------------------------------------------------------------------------------
# Where it is
# --------------------------------------------------------------------------------------


def test_location(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FIFTYONE_CONFIG_PATH", str(tmp_path / "conf" / "config.json"))
    monkeypatch.delenv("FIFTYONE_SFAM_MODELS")
    assert registry_path() == tmp_path / "conf" / "sfam_models.json"
    monkeypatch.setenv("FIFTYONE_SFAM_MODELS", "")
    assert registry_path() == tmp_path / "conf" / "sfam_models.json"
    monkeypatch.setenv("FIFTYONE_SFAM_MODELS", str(tmp_path / "own.json"))
    assert registry_path() == tmp_path / "own.json"


def test_no_file_registers_nothing(tmp_path: Path) -> None:
    assert dict(read_registry(tmp_path / "none.json")) == {}


# --------------------------------------------------------------------------------------
# Loading
# --------------------------------------------------------------------------------------


@needs_checkpoints
def test_everything_an_entry_can_say(registry: Any, tmp_path: Path) -> None:
    torch.manual_seed(0)
    namespace: dict[str, Any] = {}
    exec(NETWORK.format(imports=""), namespace)
    trained = namespace["Net"](width=6, bias=False)
    state = {f"module.{name}": v.half() for name, v in trained.state_dict().items()}
    (tmp_path / "weights").mkdir()
    torch.save({"epoch": 1, "state_dict": state}, tmp_path / "weights" / "x.pth")
    registry(
        {
            "mine": {
                "factory": "net.py:Build.net",
                "kwargs": {"width": 6, "bias": False},
                "weights": "weights/x.pth",
                "weights_key": "state_dict",
                "strip_prefix": "module.",
                "strict": True,
                "preprocess": {"size": [8, 6], "channels": "BGR", "scale": 1},
                "layer": "conv",
                "metric": "euclidean",
                "embedding": "embedding",
                "precision": "float32",
                "device": "cpu",
                "description": "Bäume",
            }
        }
    )
    assert list_models()[0] == ModelInfo("mine", "registry", "euclidean", "Bäume")
    model = load_model("mine")
    assert (model.name, model.metric, model.layer) == ("mine", "euclidean", "conv")
    assert model.preprocess == Preprocessing((8, 6), channels="BGR", scale=1)
    assert not any(module.training for module in model.network.modules())
    images = model.prepare(image())[None]
    assert images.shape == (1, 3, 8, 6)
    trained.load_state_dict(
        {n: v.half().float() for n, v in trained.state_dict().items()}
    )
    with torch.no_grad():
        expected = trained(images)["embedding"]
    torch.testing.assert_close(model.embed(images), expected)


def test_embedding_layers(registry: Any) -> None:
    registry(
        {
            "output": {**ENTRY, "embedding_layer": "fc"},
            "input": {**ENTRY, "embedding_layer": "<classifier"},
            "both": {**ENTRY, "embedding": ["embedding", "logits"]},
            "pooled": {**ENTRY, "embedding_layer": "<fc"},
        }
    )
    torch.manual_seed(3)
    images = torch.randn(2, 3, 8, 8)
    for name, width in (("output", 5), ("input", 5), ("pooled", 4)):
        model = load_model(name)
        network = model.network
        maps = torch.relu(network.conv(images)).mean((2, 3))
        expected = maps if name == "pooled" else network.get_submodule("fc")(maps)
        assert model.embed(images).shape == (2, width)
        torch.testing.assert_close(model.embed(images), expected)
        assert model.linearize(images).feature_map.shape == (2, 4, 4, 4)
    model = load_model("both")
    with torch.no_grad():
        output = model.network(images)
    expected = torch.cat([output["embedding"], output["logits"]], 1)
    torch.testing.assert_close(model.embed(images), expected)


def test_layer_argument_wins(registry: Any) -> None:
    registry(**ENTRY, layer="fc", embedding="embedding")
    assert load_model("mine", layer="conv").layer == "conv"
    with pytest.raises(ModelError, match="model 'mine' has no layer 'cnov'"):
        load_model("mine", layer="cnov")


def test_preprocess_factory_of_torchvision_places_maps(registry: Any) -> None:
    registry(
        factory="net.py:Net",
        preprocess_factory="net.py:preprocessing",
        embedding="embedding",
    )
    model = load_model("mine")
    assert model.prepare(image()).shape == (3, 8, 8)
    assert model.crop_box(8, 12) == (0, 2, 8, 10)


def test_python_path_is_there_only_while_importing(
    registry: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "code"
    (folder / "sfam_test_package").mkdir(parents=True)
    (folder / "sfam_test_package" / "__init__.py").touch()
    (folder / "sfam_test_package" / "nets.py").write_text(
        NETWORK.format(imports="import sfam_test_helper")
    )
    (folder / "sfam_test_helper.py").touch()
    before = list(sys.path)
    entry = {**ENTRY, "factory": "sfam_test_package.nets:Net"}
    registry(**entry)
    with pytest.raises(ModelError, match=r"no module 'sfam_test_package\.nets'; "):
        load_model("mine")
    registry(**entry, python_path=["code"])
    assert load_model("mine").network.conv.out_channels == 4
    assert sys.path == before
    assert "sfam_test_helper" in sys.modules
    # Another package of that name must not pass for it.
    other = tmp_path / "other" / "sfam_test_package"
    other.mkdir(parents=True)
    (other / "__init__.py").touch()
    registry(**entry, python_path=["other"])
    with pytest.raises(
        ModelError, match="'sfam_test_package' in python_path is hidden"
    ):
        load_model("mine")
    for name in [name for name in sys.modules if name.startswith("sfam_test_")]:
        monkeypatch.delitem(sys.modules, name)


def test_two_files_of_one_name(registry: Any, tmp_path: Path) -> None:
    (tmp_path / "b").mkdir()
    other = NETWORK.format(imports="").replace("width=4", "width=9")
    (tmp_path / "b" / "net.py").write_text(other)
    registry({"a": ENTRY, "b": {**ENTRY, "factory": "b/net.py:Net"}})
    widths = [load_model(name).network.conv.out_channels for name in ("a", "b", "a")]
    assert widths == [4, 9, 4]
    assert "net" not in sys.modules


def test_reading_imports_nothing(registry: Any, tmp_path: Path) -> None:
    (tmp_path / "trap.py").write_text("open('was-here', 'w')")
    registry(factory=f"{tmp_path}/trap.py:Net", preprocess={"size": [8, 8]})
    assert "mine" in [info.name for info in list_models()]
    with pytest.raises(ModelError, match=r"there is no model 'trap\.py:Net'"):
        load_model("trap.py:Net")
    assert not (tmp_path / "was-here").exists()


# --------------------------------------------------------------------------------------
# Real networks
# --------------------------------------------------------------------------------------

REAL = {
    "osnet": (
        "OSNet",
        "osnet_x0_25_msmt17.pth",
        "market1501_subset",
        {"size": [256, 128]},
    ),
    "mobilefacenet": (
        "MobileFaceNet",
        "mobilefacenet_casia_arcface.pth",
        "lfw_subset_chips112x96",
        {"size": [112, 96], "mean": [127.5] * 3, "std": [128] * 3, "scale": 1},
    ),
    "hse": (
        "MobileNetV1Face",
        "hse_faceres_mobilenetv1_fp16.pth",
        "lfw_subset_chips150",
        {
            "size": [224, 224],
            "mean": [103.939, 116.779, 123.68],
            "std": [1, 1, 1],
            "scale": 1,
            "channels": "BGR",
        },
    ),
}


@needs_checkpoints
@pytest.mark.parametrize("name", REAL)
def test_real_networks(
    name: str, assets_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    network, weights, folder, preprocess = REAL[name]
    code = assets_dir / "reference_models.py"
    entry = {
        "factory": f"{code}:{network}",
        "weights": str(assets_dir / "weights" / weights),
        "preprocess": preprocess,
    }
    file = tmp_path / "models.json"
    file.write_text(json.dumps({"models": {name: entry}}))
    monkeypatch.setenv("FIFTYONE_SFAM_MODELS", str(file))
    model = load_model(name)
    reference = load_callable(f"{code}:{network}", tmp_path)().eval()
    state = torch.load(assets_dir / "weights" / weights, weights_only=True)
    reference.load_state_dict({key: value.float() for key, value in state.items()})
    prepared, expected = [], []
    for path in sorted((assets_dir / "data" / folder).rglob("*.jpg"))[:4]:
        with Image.open(path) as opened:
            prepared.append(model.prepare(opened))
            expected.append(reference.preprocess(opened))
    torch.testing.assert_close(torch.stack(prepared), torch.stack(expected))
    with torch.no_grad():
        embeddings = reference(torch.stack(expected))
    torch.testing.assert_close(model.embed(torch.stack(prepared)), embeddings)
    assert model.find_layer(prepared[0][None]).name == reference.last_conv_stage


# --------------------------------------------------------------------------------------
# Mistakes in the file
# --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        (
            '{"models": {\n"a": }}',
            "not valid JSON: Expecting value in line 2, column 6",
        ),
        ("", "not valid JSON"),
        ("[]", "must be"),
        ('{"model": {}}', "must be"),
        ('{"models": {}, "x": 1}', "must be"),
        ('{"models": []}', "'models' is not an object"),
        ('{"models": {"a": 1}}', "model 'a' is not an object"),
        ('{"models": {" ": {}}}', "a model without a name"),
        ('{"models": {"a": {}, "a": {}}}', "has the key 'a' twice"),
        ("[" * 100_000, "is nested too deeply"),
        ('{"models": ' + "9" * 5000 + "}", "cannot be read: Exceeds the limit"),
        ('{"models": {"\\ud800": {}}}', "a model without a name"),
    ],
)
def test_files_that_are_not_a_registry(tmp_path: Path, text: str, problem: str) -> None:
    file = tmp_path / "bad.json"
    file.write_text(text)
    with pytest.raises(ModelError, match=problem) as caught:
        read_registry(file)
    assert str(file) in str(caught.value)


def test_unreadable_files(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"cannot be read \(Is a directory\)"):
        read_registry(tmp_path)
    (tmp_path / "latin.json").write_bytes(b'{"models": {"\xff": {}}}')
    with pytest.raises(ModelError, match=r"latin\.json cannot be read \('utf-8' codec"):
        read_registry(tmp_path / "latin.json")


@pytest.mark.parametrize(
    ("change", "key", "problem"),
    [
        ({"factory": None}, "factory", "null is not 'package.module:callable'"),
        ({"factory": "net.Net"}, "factory", '"net.Net" is not'),
        ({"factory": "os:system; x"}, "factory", "is not 'package.module"),
        ({"factory": "\0.py:x"}, "factory", "is not"),
        ({"kwargs": [1]}, "kwargs", r"\[1\] is not an object"),
        ({"python_path": "code"}, "python_path", "is not a list of folders"),
        ({"python_path": [3]}, "python_path", "is not a list of folders"),
        ({"weights": 3}, "weights", "3 is not the path of a file"),
        ({"weights": "x", "weights_key": []}, "weights_key", "is not a text or a list"),
        ({"strip_prefix": "a."}, "strip_prefix", "it has no effect without weights"),
        ({"weights": "x", "strict": "yes"}, "strict", '"yes" is not true or false'),
        ({"preprocess": "imagenet"}, "preprocess", "is not an object"),
        ({"preprocess": {"sise": [1, 1]}}, "preprocess", "unknown .* option 'sise'"),
        ({"preprocess": {}}, "preprocess", "option 'size' is missing"),
        ({"preprocess": {"size": [8, 8], "scale": "a"}}, "preprocess", "."),
        ({"preprocess": {"size": [8, 8], "mean": [None] * 3}}, "preprocess", "."),
        (
            {"preprocess_factory": "a:b"},
            "preprocess",
            "either it or preprocess_factory",
        ),
        ({"layer": 4}, "layer", "4 is not the name of a module"),
        ({"metric": "dot"}, "metric", "\"dot\" is not 'cosine' or 'euclidean'"),
        ({"metric": ["cosine"]}, "metric", "is not 'cosine'"),
        ({"precision": "int8"}, "precision", "\"int8\" is not 'float32', 'bfloat16'"),
        ({"device": "meta"}, "device", '"meta" is not a device as torch names it'),
        (
            {"device": 0},
            "device",
            "0 is not a device as torch names it, such as 'cuda'",
        ),
        ({"embedding": 1.5}, "embedding", "1.5 is not a text or a whole number"),
        ({"embedding": True}, "embedding", "true is not a text"),
        ({"embedding": []}, "embedding", r"\[\] is not a text"),
        ({"embedding": [1, [2]]}, "embedding", r"\[1, \[2\]\] is not a text"),
        ({"description": None}, "description", "null is not a text"),
        ({"description": "\udfff"}, "description", r'"\\udfff" is not a text'),
        ({"wieghts": "x"}, "wieghts", "the key is unknown; known are factory, source"),
    ],
)
def test_mistakes_name_file_model_and_key(
    registry: Any, change: dict[str, Any], key: str, problem: str
) -> None:
    file = registry(**{**ENTRY, **change})
    with pytest.raises(ModelError, match=problem) as caught:
        list_models()
    message = str(caught.value)
    assert message.startswith(
        f"in the registry file {file}, model 'mine', key '{key}': "
    )
    assert message.endswith(".")
    assert "\n" not in message


@pytest.mark.parametrize("missing", ["factory", "preprocess"])
def test_missing_keys(registry: Any, missing: str) -> None:
    registry(**{key: value for key, value in ENTRY.items() if key != missing})
    with pytest.raises(ModelError, match=f"model 'mine', key '{missing}'"):
        list_models()


# --------------------------------------------------------------------------------------
# Mistakes that show when the model is loaded
# --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "key", "problem"),
    [
        ({"factory": "none.py:Net"}, "factory", r"the file .*none\.py does not exist"),
        ({"factory": "net.py:Nett"}, "factory", "has no 'Nett'; did you mean 'Net'"),
        ({"factory": "net.py:CONSTANT"}, "factory", "is int, not a function"),
        ({"factory": "net.py:fails"}, "factory", r"\(RuntimeError: no luck\)"),
        ({"factory": "net.py:a_list"}, "factory", "returned list; a torch.nn.Module"),
        ({"factory": "broken.py:Net"}, "factory", r"failed to import \(ZeroDivision"),
        ({"factory": "lacking.py:Net"}, "factory", r"\(ModuleNotFoundError: No module"),
        ({"factory": "no_such_pkg.a:b"}, "factory", "no module 'no_such_pkg.a'"),
        ({"factory": "json.nothing:b"}, "factory", "no module 'json.nothing'"),
        ({"kwargs": {"depth": 3}}, "factory", "unexpected keyword argument 'depth'"),
        ({"python_path": ["nowhere"]}, "python_path", "nowhere does not exist"),
        ({"weights": "none.pth"}, "weights", r"none\.pth does not exist"),
        pytest.param(
            *({"weights": "other.pth"}, "weights", "6 missing .* 1 unexpected"),
            marks=needs_checkpoints,
        ),
        ({"layer": "cnov"}, "layer", "has no layer 'cnov'; did you mean 'conv'"),
        ({"embedding_layer": "<head"}, "embedding_layer", "has no layer 'head'"),
        ({"embedding_layer": "head"}, "embedding_layer", "has no layer 'head'"),
        ({"device": "cuda:99"}, "device", r"'cuda:99' cannot be used \("),
        ({"device": "gpu"}, "device", r"'gpu' cannot be used \(RuntimeError"),
    ],
)
def test_mistakes_that_show_on_loading(
    registry: Any, tmp_path: Path, change: dict[str, Any], key: str, problem: str
) -> None:
    (tmp_path / "broken.py").write_text("1 / 0")
    (tmp_path / "lacking.py").write_text("import no_such_module_at_all")
    torch.save({"a": torch.ones(1)}, tmp_path / "other.pth")
    file = registry(**{**ENTRY, **change})
    modules = set(sys.modules)
    with pytest.raises(ModelError, match=problem) as caught:
        load_model("mine")
    message = str(caught.value)
    assert message.startswith(
        f"in the registry file {file}, model 'mine', key '{key}': "
    )
    assert message.count("\n") == 0
    left = [name for name in set(sys.modules) - modules if "broken" in name]
    assert left == []


def test_preprocess_factory_must_return_a_function(registry: Any) -> None:
    registry(factory="net.py:Net", preprocess_factory="net.py:a_list")
    with pytest.raises(ModelError, match="key 'preprocess_factory': it returned list"):
        load_model("mine")


# --------------------------------------------------------------------------------------
# Any JSON
# --------------------------------------------------------------------------------------

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=9), inner)
    ),
    max_leaves=8,
)
entries = st.fixed_dictionaries(
    {},
    optional={
        key: json_values
        | st.sampled_from(["a.b:c", "x.py:y", "cosine", {"size": [4, 4]}, ["a"], True])
        for key in (
            *("factory", "kwargs", "python_path", "weights", "weights_key", "strict"),
            *("preprocess", "preprocess_factory", "layer", "metric", "embedding"),
            *("embedding_layer", "strip_prefix", "description", "precision"),
            "device",
        )
    },
)


@settings(max_examples=300, deadline=None)
@given(st.dictionaries(st.text(max_size=5), entries | json_values, max_size=3))
def test_any_json_is_read_or_refused(
    tmp_path_factory: pytest.TempPathFactory, models: dict[str, Any]
) -> None:
    file = tmp_path_factory.getbasetemp() / "fuzzed.json"
    file.write_text(json.dumps({"models": models}))
    try:
        registered = read_registry(file)
    except ModelError as error:
        refused = str(error)
    else:
        refused = str(file)
        assert set(registered) == set(models)
    assert str(file) in refused
