"""The benchmarks can be imported, and their checks can fail."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import check_real
import pytest
import torch
from check_real_float64 import float64_error
from torch import Tensor, nn

from fiftyone_sfam import EmbeddingModel
from paths import ROOT

# What only some benchmarks need: the extra `bench`, what `make check-architectures`
# installs, and a module of the private assets.
OPTIONAL = {
    "captum",
    "class_token_vit",
    "facenet_pytorch",
    "pytorch_grad_cam",
    "pytorch_metric_learning",
    "smqtk_descriptors",
    "xaitk_saliency",
}

# Runs every import statement of a file, also those inside functions, and then the file.
IMPORT_ALL = """
import ast, importlib, json, sys
from pathlib import Path

folder, optional = Path(sys.argv[1]), set(json.loads(sys.argv[2]))
# neighbors.py takes its database from the tests.
above = folder.parent
sys.path[:0] = [str(folder), str(above / "tests"), str(above / "scripts")]
problems = []
for path in sorted(folder.glob("*.py")):
    tree = ast.parse(path.read_text())
    imports = [n for n in ast.walk(tree) if isinstance(n, (ast.Import, ast.ImportFrom))]
    for node in imports:
        code = compile(ast.Module([node], []), str(path), "exec")
        try:
            exec(code, {"__name__": path.stem})
        except ImportError as error:
            missing = isinstance(error, ModuleNotFoundError) and error.name
            if not missing or missing.partition(".")[0] not in optional:
                problems.append(f"{path.name}:{node.lineno}: {error}")
    try:
        importlib.import_module(path.stem)
    except Exception as error:
        problems.append(f"{path.name}: {type(error).__name__}: {error}")
print(json.dumps(problems))
"""


def problems_of(folder: Path) -> list[str]:
    done = subprocess.run(
        [sys.executable, "-c", IMPORT_ALL, str(folder), json.dumps(sorted(OPTIONAL))],
        capture_output=True,
        text=True,
        check=True,
        cwd=ROOT,
    )
    problems: list[str] = json.loads(done.stdout.splitlines()[-1])
    return problems


def test_every_import_of_every_benchmark_resolves() -> None:
    assert problems_of(ROOT / "benchmarks") == []


def test_broken_imports_are_seen(tmp_path: Path) -> None:
    (tmp_path / "lazy.py").write_text(
        "def main():\n    from fiftyone_sfam import no_such_name\n"
    )
    (tmp_path / "missing.py").write_text("import no_such_module\n")
    (tmp_path / "optional.py").write_text("def main():\n    import captum.attr\n")
    problems = problems_of(tmp_path)
    assert [problem.split(": ")[0] for problem in problems] == [
        "lazy.py:2",
        "missing.py:1",
        "missing.py",
    ]


REPORT = check_real.Report(
    model="network",
    layer="layer",
    map_shape=(8, 4, 4),
    images=8,
    pairs=8,
    passes_stored=1.0,
    passes_computed=2.0,
    passes_searched=0,
    sum_error=0.0,
    sum_error_relative=0.0,
    largest_remainder=0.0,
    single_error=0.0,
    single_error_float64=None,
    rank1=0.5,
    rank1_expected=0.5,
    pair_correlation_signed=0.0,
    pair_correlation_minmax=0.0,
    share_not_held=0.0,
    share=0.0,
    broken=(),
)


@pytest.mark.parametrize(
    ("float32", "float64", "holds"),
    [
        (9e-6, None, True),
        (2e-5, None, False),
        (2e-5, 1e-12, True),
        (2e-5, 1e-7, False),
        (2e-4, 1e-12, False),
        (float("nan"), None, False),
    ],
)
def test_float64_decides_only_what_may_be_rounding(
    float32: float, float64: float | None, holds: bool
) -> None:
    report = replace(REPORT, single_error=float32, single_error_float64=float64)
    broken = () if holds else ("batched and single pairs differ",)
    assert check_real.broken_bounds(report) == broken
    assert ("float64" in check_real.summary(report)) == (float64 is not None)


class Small(nn.Module):
    """A network whose images may affect each other: it adds a part of their mean."""

    def __init__(self, shared: float) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 3, padding=1)
        self.linear = nn.Linear(8, 5)
        self.shared = shared

    def forward(self, images: Tensor) -> Tensor:
        maps = self.conv(images).relu()
        maps = maps + self.shared * maps.mean(0, keepdim=True)
        embedding: Tensor = self.linear(maps.mean((2, 3)))
        return embedding


@pytest.mark.parametrize(("shared", "low", "high"), [(0, 0, 1e-14), (1e-6, 1e-8, 1e-5)])
def test_float64_shows_what_float32_would_hide(
    shared: float, low: float, high: float
) -> None:
    torch.manual_seed(0)
    model = EmbeddingModel(Small(shared), nn.Identity(), layer="conv", name="small")
    images = dict(enumerate(torch.randn(6, 3, 8, 8)))
    error = float64_error(model, images, [[0, 1, 2], [3, 4, 5]], [(0, 4), (2, 1)])
    assert low <= error <= high
