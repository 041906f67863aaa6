"""Sources of models in forms, requests and stored runs: refused, and never opened."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import fiftyone as fo
import fiftyone.operators as foo
import pytest

import fiftyone_zoo
from fiftyone_sfam import check_faithfulness, explain_retrieval
from fiftyone_sfam.app.operators.check_faithfulness import CheckFaithfulness
from fiftyone_sfam.app.operators.explain_regions import ExplainRegions
from fiftyone_sfam.app.operators.explain_retrieval import ExplainRetrieval
from fiftyone_sfam.app.operators.explain_selected import ExplainSelected
from fiftyone_sfam.app.pairs.live import live_pair
from fiftyone_sfam.app.pairs.pictures import ImageFile
from fiftyone_sfam.errors import ModelError
from fiftyone_sfam.runs.run import Run, load_run
from fiftyone_sfam.runs.run_config import record_run
from operator_support import context, problems
from worlds import REID, fill, tiny_model

SOURCES = ("timm:test_resnet", "torchvision:resnet18", "onnx:{path}", "hub:{path}:net")


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Run]:
    dataset = fill(fo.Dataset(), tmp_path_factory.mktemp("images"))
    yield explain_retrieval(dataset, tiny_model(), k=2, protocol=REID)
    dataset.delete()


@pytest.fixture
def trap(tmp_path: Path) -> Path:
    """A folder whose code notes that it ran."""
    (tmp_path / "hubconf.py").write_text(
        f"open({str(tmp_path / 'ran')!r}, 'w').close()\ndef net(): pass\n"
    )
    return tmp_path


@pytest.mark.parametrize("source", SOURCES)
@pytest.mark.parametrize(
    "operator",
    [ExplainRetrieval, ExplainSelected, ExplainRegions, CheckFaithfulness],
    ids=lambda operator: operator.__name__,
)
def test_a_source_in_a_request_is_refused(
    run: Run, trap: Path, operator: type[foo.Operator], source: str
) -> None:
    source = source.format(path=trap)
    params: dict[str, Any] = {"key": "sfam", "model": source, "causal": True}
    if operator is ExplainRetrieval:
        params["key"] = "other"
    selected = [str(value) for value in run.dataset.limit(2).values("id")]
    ctx = context(run.dataset, params, selected=selected)
    with pytest.raises(ModelError, match="there is no model '") as caught:
        operator().execute(ctx)
    assert "ask the owner of this machine to register it" in str(caught.value)
    assert not (trap / "ran").exists()
    # The form refuses it before.
    assert "model" in problems(operator(), ctx)


@pytest.mark.parametrize("source", SOURCES)
def test_a_source_in_a_stored_run_is_refused(run: Run, trap: Path, source: str) -> None:
    source = source.format(path=trap)
    record_run(run.dataset, "sfam", replace(run.config, model=source))
    forged = load_run(run.dataset, "sfam")
    assert forged.config.model == source
    ctx = context(run.dataset, {"key": "sfam", "causal": True})
    for refuse in (
        lambda: CheckFaithfulness().execute(ctx),
        lambda: ExplainRegions().execute(ctx),
        # Also in Python: the run may come with a dataset from elsewhere.
        lambda: check_faithfulness(forged),
    ):
        with pytest.raises(ModelError, match="there is no model '"):
            refuse()
    assert not (trap / "ran").exists()


@pytest.mark.parametrize("source", SOURCES)
def test_a_source_in_the_state_of_a_panel_is_refused(
    run: Run, trap: Path, source: str
) -> None:
    filepath = run.dataset.first().filepath
    images = (ImageFile(filepath, (0, 0)), ImageFile(filepath, (0, 0)))
    with pytest.raises(ModelError, match="there is no model '"):
        live_pair(source.format(path=trap), images)
    assert not (trap / "ran").exists()


def test_a_zoo_model_whose_code_is_downloaded_is_refused(
    run: Run, trap: Path, tmp_path: Path
) -> None:
    config = fiftyone_zoo.dinov2(tmp_path / "unused")[1]
    config["entrypoint_args"] = {
        "repo_or_dir": str(trap),
        "model": "net",
        "source": "local",
    }
    deployment = ("fiftyone.utils.torch.TorchImageModel", config)
    filepath = run.dataset.first().filepath
    images = (ImageFile(filepath, (0, 0)), ImageFile(filepath, (0, 0)))
    selected = [str(value) for value in run.dataset.limit(2).values("id")]
    ctx = context(
        run.dataset, {"key": "other", "model": "own-dinov2"}, selected=selected
    )
    with fiftyone_zoo.own_manifest(tmp_path, {"own-dinov2": deployment}):
        for refuse in (
            lambda: ExplainRetrieval().execute(ctx),
            lambda: ExplainSelected().execute(ctx),
            lambda: live_pair("own-dinov2", images),
        ):
            with pytest.raises(ModelError, match="with code that it downloads"):
                refuse()
    assert not (trap / "ran").exists()
