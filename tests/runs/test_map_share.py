"""Maps that carry next to nothing of the similarity, and everyone who says so."""

from __future__ import annotations

import json
import warnings
from pathlib import Path

import fiftyone as fo
import fiftyone.operators as foo
import numpy as np
import pytest
import timm
import torch
from PIL import Image
from torch import nn
from torchvision.models import convnext_tiny

from fiftyone_sfam import explain_contrast, explain_pair, explain_retrieval, load_run
from fiftyone_sfam.app.forms.markdown import as_text
from fiftyone_sfam.app.operators.explain_retrieval import ExplainRetrieval
from fiftyone_sfam.app.operators.explain_selected import ExplainSelected
from fiftyone_sfam.app.operators.manage_runs import ManageRuns
from fiftyone_sfam.attribution.map_share import map_warnings, median_share
from fiftyone_sfam.audit.report.write import write_report
from fiftyone_sfam.cli.entry import main
from fiftyone_sfam.data.text import escape_markdown, percent
from fiftyone_sfam.errors import SfamWarning
from fiftyone_sfam.network.embedder import EmbeddingModel
from fiftyone_sfam.network.preprocess import Preprocessing
from fiftyone_sfam.runs.run import Run
from fiftyone_sfam.runs.run_config import RunConfig, record_run
from operator_support import PLUGIN, context
from pairs_component import PairsComponent
from panel_support import AuditPanel
from paths import TESTS
from report_support import Page
from stored import interrupt_after
from worlds import HEIGHT, REID, WIDTH, normed_model, person, tiny_model

PIXELS = Preprocessing(size=(HEIGHT, WIDTH))
FACTORY = """
import sys
sys.path.insert(0, {tests!r})
from worlds import normed_network
"""


def sentence(percent: str, of: str = "similarity score", layer: str = "body") -> str:
    return (
        f"These maps carry {percent} % of the {of}: the rest comes from what follows "
        f"layer '{layer}' (typically a bias or other tokens). Do not read them as "
        "explanations; no stage of the network carries a tenth of the similarity, so "
        "use explain_path, which does not depend on a layer."
    )


RUN_SENTENCE = sentence("0.0", "similarity score (median of the first batch)")


def quietly(samples: fo.Dataset, model: EmbeddingModel | str, **options: object) -> Run:
    """Make a run that has to say something; a test asserts elsewhere what."""
    options = {"k": 2, "protocol": REID, "batch_size": 4, **options}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", SfamWarning)
        return explain_retrieval(samples, model, **options)


def share_by_hand(run: Run, model: EmbeddingModel) -> float:
    """The median of ``eps / (v + eps)`` over the sides of the first shard."""
    network = model.network
    shares, filepaths = [], run.dataset.values("filepath")
    _, image = run.plan.sides_of(0)
    for item in run.plan.images_of(0)[image]:
        picture = Image.open(filepaths[item]).convert("RGB")
        with torch.no_grad():
            means = network.means(model.prepare(picture)[None])[0].double()
        variance = float(means.var(unbiased=False))
        shares.append(network.norm.eps / (variance + network.norm.eps))
    return float(np.median(shares))


# -- the figure ------------------------------------------------------------------------


def test_the_median_is_over_explained_sides_with_a_score() -> None:
    nan = np.nan
    scores = np.float32([0.5, -0.5, 0.8, nan, 0.0, nan])
    remainders = np.float32([0.4, -0.25, 1.0, nan, 0.3, 0.1])
    # 0.1 / 0.5, 0.25 / 0.5 and 0.2 / 0.8.
    assert median_share(scores, remainders) == pytest.approx(0.25, abs=1e-7)
    assert median_share(scores[3:], remainders[3:]) is None


@pytest.mark.parametrize(
    ("share", "said"), [(None, 0), (1.0, 0), (0.1, 0), (0.0999, 1), (0.0, 1)]
)
def test_the_threshold_is_a_tenth(share: float | None, said: int) -> None:
    assert len(map_warnings(share, "body", "margin")) == said


@pytest.mark.parametrize(
    ("fullest", "way_out"),
    [
        (None, "name another layer with layer=..., or use explain_path"),
        (("", 0.0), "no stage of the network carries a tenth of the similarity, so"),
        (("body", 0.9), "no stage of the network carries a tenth of the similar"),
        (("stem", 0.09), "no stage of the network carries a tenth of the similar"),
        (("stem", 0.973), "give layer='stem', which carries 97.3 % of an image's"),
    ],
)
def test_the_way_out(fullest: tuple[str, float] | None, way_out: str) -> None:
    (text,) = map_warnings(0.01, "body", "margin", fullest)
    assert f"as explanations; {way_out}" in text


@pytest.mark.parametrize(
    ("eps", "least", "most"), [(1e-12, 0, 1e-9), (3e-4, 0.005, 0.09)]
)
def test_a_run_keeps_the_share_and_says_it(
    world: fo.Dataset, eps: float, least: float, most: float
) -> None:
    model = normed_model(eps)
    with pytest.warns(SfamWarning) as caught:
        run = explain_retrieval(world, model, k=2, protocol=REID, batch_size=4)
    expected = share_by_hand(run, model)
    assert least < expected < most
    assert run.config.share_on_map == pytest.approx(expected, rel=1e-3, abs=1e-6)
    percent = f"{100 * expected:.1f}"
    text = sentence(percent, "similarity score (median of the first batch)")
    assert [str(one.message) for one in caught] == [text]
    # At the caller's line.
    assert caught[0].filename == __file__
    for shown in (run, load_run(world, "sfam")):
        assert shown.warnings == (text,)
        assert shown.summary()["warnings"] == [text]
        assert text in repr(shown)


def test_the_share_is_that_of_all_evidence(world: fo.Dataset) -> None:
    run = quietly(world, tiny_model(), kinds=["evidence"], map_dtype="float32")
    sides, _ = run.plan.sides_of(0)
    shares = []
    for side in sides:
        maps = run.maps(int(side) // 2)
        own = (maps.query, maps.gallery)[int(side) % 2]
        shares.append(abs(own.maps["evidence"].sum()) / abs(own.score))
    assert run.config.share_on_map == pytest.approx(np.median(shares), rel=1e-4)
    # Maps that are not stored have the same share.
    other = quietly(world, tiny_model(), key="other", kinds=["sfam"])
    assert other.config.share_on_map == run.config.share_on_map


def test_a_resumed_run_has_the_same_share(world: fo.Dataset) -> None:
    model = normed_model(0.01)
    whole = quietly(world, model, key="whole").config.share_on_map
    with pytest.raises(KeyboardInterrupt):
        quietly(world, model, progress=interrupt_after(2, "explaining"))
    assert quietly(world, model).config.share_on_map == whole


def test_a_bias_that_is_nearly_the_whole_score(world: fo.Dataset) -> None:
    model = tiny_model()
    model.network.neck.bias.data *= 1000
    run = quietly(world, model)
    assert run.config.share_on_map < 0.01
    assert len(run.warnings) == 1


def test_the_first_shard_may_have_no_maps(world: fo.Dataset) -> None:
    model = normed_model(0.01)
    vectors = quietly(world, model, key="whole").embeddings()
    options = {"embeddings": vectors, "batch_size": 1, "k": 1}
    run = quietly(world, model, key="first", **options)
    first = run.plan.images_of(0)[0]
    Path(world.values("filepath")[first]).unlink()
    again = quietly(world, model, key="again", **options)
    shards = [again.store.get(f"maps-{number:06d}") for number in (0, 1)]
    assert not shards[0]["map_shape"].any()
    second = median_share(shards[1]["score"], shards[1]["remainder"])
    assert again.config.share_on_map == second != run.config.share_on_map


def test_nothing_is_said_where_the_maps_carry_everything(
    world: fo.Dataset, capsys: pytest.CaptureFixture[str]
) -> None:
    network = nn.Sequential(
        nn.Conv2d(3, 6, 3, stride=2, padding=1),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(6, 5, bias=False),
    )
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        run = explain_retrieval(world, EmbeddingModel(network, PIXELS), k=2)
        explain_pair(EmbeddingModel(network, PIXELS), person(0), person(1))
    assert run.config.share_on_map == pytest.approx(1, abs=1e-5)
    assert run.warnings == ()
    assert run.summary()["warnings"] == []


def test_a_run_of_an_earlier_version_opens_and_says_nothing(world: fo.Dataset) -> None:
    run = quietly(world, normed_model())
    values = vars(run.config)
    del values["share_on_map"], values["fullest_layer"]
    old = RunConfig.from_dict(values)
    assert old.share_on_map is None
    record_run(world, "sfam", old)
    info = world.get_run_info("sfam").config
    assert info.share_on_map is None
    opened = load_run(world, "sfam")
    assert (opened.config, opened.warnings) == (old, ())


def test_convnext() -> None:
    """As it ends: average, LayerNorm, embedding. What the norm divides by is held."""
    torch.manual_seed(0)
    network = convnext_tiny().eval()
    network.classifier[2] = nn.Identity()
    for module in network.modules():
        if isinstance(module, nn.LayerNorm):
            nn.init.normal_(module.weight, 1, 0.5)
            nn.init.normal_(module.bias, 0, 0.2)
    model = EmbeddingModel(network, Preprocessing(size=(64, 64)), layer="features")
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 255, (2, 64, 64, 3), dtype=np.uint8)
    pixels[1] //= 2
    images = [Image.fromarray(one) for one in pixels]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        explained = explain_pair(model, *images)
    # After the norm, only its bias is not on the map.
    bias = network.classifier[0].bias.detach().double()
    ends = model.embed(torch.stack([model.prepare(image) for image in images]))
    ends = ends.double()
    for side, partner in ((explained.query, ends[1]), (explained.gallery, ends[0])):
        rest = float(bias @ partner / ends.norm(dim=1).prod())
        assert side.remainder == pytest.approx(rest, abs=1e-4)
        assert abs(side.evidence.sum()) > 0.5 * abs(side.score)


def class_token_network() -> nn.Module:
    """A transformer whose class token has read the image after a few blocks."""
    torch.manual_seed(0)
    network = timm.create_model("test_vit", num_classes=0, img_size=32).eval()
    for name, parameter in network.named_parameters():
        if name in ("cls_token", "pos_embed") or name.endswith("bias"):
            nn.init.zeros_(parameter)
    return network


def test_a_late_block_of_a_transformer(world: fo.Dataset) -> None:
    """The warning names the layer whose tokens enter the first block, which is held."""
    network = class_token_network()
    pixels = Preprocessing(size=(32, 32))
    late = EmbeddingModel(network, pixels, layer="blocks.4")
    images = person(0), person(0, 1)
    with pytest.warns(SfamWarning, match="give layer='norm_pre', which carries ") as w:
        few = explain_pair(late, *images)
    assert (str(w[0].message),) == few.warnings
    # What it says holds at that layer, where everything but constants is on the map.
    better = late.with_layer("norm_pre")
    batch = better.prepare(images[0])[None]
    assert better.carries_all(batch, "norm_pre")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        same = explain_pair(better, images[0], images[0])
        more = explain_pair(better, *images)
    share = float(same.query.evidence.sum()) / same.score
    assert share > 0.95
    assert f"which carries {percent(share)} of an image's" in few.warnings[0]
    assert abs(few.query.evidence.sum()) < 0.1 * abs(few.score)
    assert more.query.evidence.sum() > 0.9 * more.score
    # So does the warning of a run, and of one that is opened again.
    name, stated = late.fullest_layer(batch)
    assert (name, stated) == ("norm_pre", pytest.approx(share, abs=1e-5))
    with pytest.warns(SfamWarning, match="give layer='norm_pre', which carries "):
        run = explain_retrieval(world, late, k=2, protocol=REID)
    assert run.config.fullest_layer[0] == "norm_pre"
    assert run.config.fullest_layer[1] > 0.95
    opened = load_run(world, "sfam")
    assert opened.config == run.config
    assert opened.warnings == run.warnings != ()
    fine = explain_retrieval(world, better, k=2, protocol=REID, key="fine")
    assert (fine.config.fullest_layer, fine.warnings) == (None, ())


# -- two images at a time --------------------------------------------------------------


def test_a_pair_says_it() -> None:
    with pytest.warns(SfamWarning) as caught:
        explained = explain_pair(normed_model(), person(0), person(0, 1))
    assert abs(explained.score) > 0.5
    assert explained.query.evidence.sum() == pytest.approx(0, abs=1e-5)
    assert [str(one.message) for one in caught] == [sentence("0.0")]
    assert caught[0].filename == __file__
    assert explained.warnings == (sentence("0.0"),)


def test_a_contrast_says_it() -> None:
    with pytest.warns(SfamWarning) as caught:
        side = explain_contrast(normed_model(), person(0), person(0, 1), person(1))
    assert abs(side.score) > 0.05
    assert [str(one.message) for one in caught] == [sentence("0.0", "margin")]
    assert caught[0].filename == __file__


def test_a_score_near_zero_says_nothing() -> None:
    """The same image twice: a margin of 0, of which the maps carry nothing."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        side = explain_contrast(normed_model(), person(0), person(1), person(1))
    assert abs(side.score) < 1e-6


# -- who says it -----------------------------------------------------------------------


@pytest.fixture
def registered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The name of a model whose maps carry nothing."""
    (tmp_path / "net.py").write_text(FACTORY.format(tests=str(TESTS)))
    entry = {"factory": "net.py:normed_network", "preprocess": {"size": [16, 8]}}
    file = tmp_path / "models.json"
    file.write_text(json.dumps({"models": {"normed": entry}}))
    monkeypatch.setenv("FIFTYONE_SFAM_MODELS", str(file))
    return "normed"


def test_the_command_line(
    world: fo.Dataset, registered: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # once is enough
        assert main(["explain", world.name, "--model", registered]) == 0
        out = capsys.readouterr().out.splitlines()
        assert out[-1] == f"warning: {RUN_SENTENCE}"
        assert out[-2].startswith("seconds")
        assert main(["explain", world.name, "--model", "demo", "--key", "d"]) == 0
    assert "warning" not in capsys.readouterr().out


@pytest.mark.filterwarnings("ignore::fiftyone_sfam.errors.SfamWarning")
def test_the_operators(world: fo.Dataset, registered: str) -> None:
    explain = foo.get_operator(f"{PLUGIN}/explain_retrieval")
    result = explain(world, registered, k=2).result
    assert result["warnings"] == [RUN_SENTENCE]
    ctx = context(world, results=result)
    shown = ExplainRetrieval().resolve_output(ctx).type.properties
    assert shown["warning_0"].view.label == RUN_SENTENCE

    one, other = world.values("id")[:2]
    ctx = context(world, {"model": registered, "kind": "sfam"}, selected=[one, other])
    result = ExplainSelected().execute(ctx)
    assert result["warnings"] == [sentence("0.0")]
    ctx = context(world, results=result)
    shown = ExplainSelected().resolve_output(ctx).type.properties
    assert shown["warning_0"].view.label == sentence("0.0")

    form = ManageRuns().resolve_input(context(world, {"key": "sfam"}))
    assert as_text(RUN_SENTENCE, most=None) in json.dumps(
        form.to_json(), ensure_ascii=False
    ).replace("\\\\", "\\")

    explain(world, "demo", key="fine", k=2)
    results = load_run(world, "fine").summary()
    shown = ExplainRetrieval().resolve_output(context(world, results=results))
    assert "warning_0" not in shown.type.properties


def test_the_panels_and_the_report(world: fo.Dataset, tmp_path: Path) -> None:
    run = quietly(world, normed_model())
    audit = AuditPanel(world)
    assert audit.blocks[:2] == ["warning_0", "cards"]
    assert audit.block("warning_0")["markdown"] == (
        f"**{escape_markdown(RUN_SENTENCE)}**"
    )
    assert PairsComponent(world).run["notes"] == [RUN_SENTENCE]
    page = Page(write_report(run, tmp_path / "report").page)
    first = page.section("summary").select("li")[0].get_text()
    assert first.replace("\u00a0", " ") == RUN_SENTENCE
    shown = {row["setting"].text: row["value"].text for row in page.table("config")}
    assert shown["share of the score on the maps"] == "0.0 %"

    fine = quietly(world, tiny_model(), key="sfam", overwrite=True)
    assert AuditPanel(world).blocks[0] == "cards"
    assert PairsComponent(world).run["notes"] == []
    page = Page(write_report(fine, tmp_path / "fine").page)
    assert "These maps carry" not in page.section("summary").get_text()
    share = f"{100 * fine.config.share_on_map:.1f} %"
    shown = {row["setting"].text: row["value"].text for row in page.table("config")}
    assert shown["share of the score on the maps"] == share
