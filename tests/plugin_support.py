"""What FiftyOne finds of the plugin in a fresh process."""

from __future__ import annotations

from pathlib import Path

import yaml

from paths import ROOT

MANIFEST = yaml.safe_load((ROOT / "fiftyone.yml").read_text("utf-8"))

NAME = MANIFEST["name"]

# Builds the registry twice, as the App does, without the checkout on the path when
# asked: the way it is where nothing was installed with pip.
REPORT = """
import importlib.util, json, os, sys
hide = os.environ.get("HIDE")
sys.path[:] = [p for p in sys.path if os.path.realpath(p or ".") != hide]
before = importlib.util.find_spec("fiftyone_sfam")
from fiftyone.operators.registry import OperatorRegistry
import fiftyone.plugins as fop
OperatorRegistry()
registry = OperatorRegistry()
ours = [op for op in registry.list_operators() if op.plugin_name == NAME]
panels = {op.name for op in registry.list_operators(type="panel")}
package = sys.modules.get("fiftyone_sfam")
print("REPORT" + json.dumps({
    "errors": registry.list_errors(),
    "operators": sorted(op.name for op in ours if op.name not in panels),
    "panels": sorted(op.name for op in ours if op.name in panels),
    "modules": sorted({type(op).__module__ for op in ours}),
    "torch": "torch" in sys.modules,
    "importable_before": before is not None,
    "package": package and package.__file__,
    "folders": [p.directory for p in fop.list_plugins() if p.name == NAME],
    "skills": sorted(skill.name for skill in fop.list_skills(plugin=NAME)),
    "requirements": fop.load_plugin_requirements(NAME),
}))
""".replace("NAME", repr(NAME))


def assert_loaded(found: dict) -> None:
    assert found["errors"] == []
    assert found["operators"] == sorted(MANIFEST["operators"])
    assert found["panels"] == sorted(MANIFEST["panels"])
    assert found["skills"] == sorted(MANIFEST["skills"])
    # Classes of the package itself, not of a second copy under FiftyOne's module name.
    assert all(name.startswith("fiftyone_sfam.") for name in found["modules"])
    assert found["torch"] is False


def weights_in(package: Path) -> dict[str, int]:
    files = {p.name: p.stat().st_size for p in package.glob("demo/weights/*")}
    assert files, f"no weights in {package}"
    return files
