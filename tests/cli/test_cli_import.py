"""The command that imports known data sets, and the page about it."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import fiftyone as fo
import pytest

from cli_support import Output, printed, refused
from fiftyone_sfam.audit.evaluation.evaluate import evaluate_retrieval
from fiftyone_sfam.data.layouts.importer import load_protocol
from fiftyone_sfam.data.layouts.table import LAYOUTS
from fiftyone_sfam.data.protocol import Protocol
from fiftyone_sfam.runs.run import load_run
from layout_support import CUHK03, MARKET, cuhk03_matlab, draw, write
from paths import ROOT

PAGE = ROOT / "docs" / "datasets.md"


@pytest.fixture(autouse=True)
def _datasets() -> Iterator[None]:
    """Delete the datasets that a test makes."""
    before = set(fo.list_datasets())
    yield
    for name in set(fo.list_datasets()) - before:
        fo.delete_dataset(name)


def page_commands() -> list[list[str]]:
    """The imports on the page."""
    blocks = re.findall(r"^```bash\n(.*?)^```", PAGE.read_text("utf-8"), re.M | re.S)
    lines = "".join(blocks).replace("\\\n", " ").splitlines()
    return [shlex.split(line)[1:] for line in lines if " import " in line]


def draw_page(folder: Path) -> None:
    """Draw the folders that the page names."""
    draw(folder / "Market-1501-v15.09.15", MARKET)
    draw(folder / "cuhk03/images_labeled", CUHK03)
    cuhk03_matlab(folder / "cuhk03", "labeled")
    draw(folder / "VehicleID/image", ["0000001.jpg", "0000002.jpg"])
    lists = {"train_list.txt": "0000001 1\n", "test_list_1600.txt": "0000002 2\n"}
    write(folder / "VehicleID/train_test_split", lists)
    draw(folder / "SYSU-MM01", ["cam1/0006/0001.jpg", "cam3/0006/0001.jpg"])
    ids = {"train_id.txt": "1", "val_id.txt": "2", "test_id.txt": "6"}
    write(folder / "SYSU-MM01/exp", ids)
    draw(folder, ["my-animals/Ayo/1.png", "turtles/t1/1.png", "cat.png"])
    write(folder, {"turtles/metadata.csv": "path,identity\nt1/1.png,t1\n"})
    write(folder, {"cats.csv": "file,who,station\ncat.png,Tom,s1\n"})


def test_the_commands_of_the_page(
    tmp_path: Path, capsys: Output, monkeypatch: pytest.MonkeyPatch
) -> None:
    draw_page(tmp_path)
    monkeypatch.chdir(tmp_path)
    texts = [printed(capsys, *command) for command in page_commands()]
    assert [text.splitlines()[0] for text in texts] == [
        "8 images of 5 identities (train 2, query 2, gallery 4)",
        "4 images of 2 identities (train 2, query 1, gallery 1)",
        "2 images of 2 identities (train 1, test 1)",
        "2 images of 1 identity (gallery 1, query 1)",
        "1 image of 1 identity",
        "1 image of 1 identity",
        "1 image of 1 identity",
    ]
    assert texts[0].splitlines()[1:] == [
        "the protocol compares query with gallery",
        "made the dataset 'market1501': fiftyone-sfam explain market1501 --model MODEL",
    ]
    assert fo.load_dataset("market1501").persistent
    assert fo.load_dataset("cats").first()["camera"] == "s1"
    rules = load_protocol(fo.load_dataset("sysu-mm01"))
    assert rules is not None
    assert rules.exclude == (("place",),)
    assert rules.gallery_per == ("identity", "camera")


def test_the_page_lists_the_layouts_and_variants() -> None:
    text = PAGE.read_text("utf-8")
    assert re.findall(r"^\| `([\w-]+)` \|", text, re.M) == list(LAYOUTS)
    for layout in LAYOUTS.values():
        assert all(f"`{variant}`" in text for variant in layout.variants)


def test_mistakes(tmp_path: Path, capsys: Output) -> None:
    draw(tmp_path, ["Ayo/1.png"])
    folder = str(tmp_path)
    assert "unknown layout 'market'" in refused(capsys, "import", "market", folder)
    assert "named as in market1501" in refused(capsys, "import", "market1501", folder)
    printed(capsys, "import", "folders", folder, "--name", "animals-of-mine")
    message = refused(capsys, "import", "folders", folder, "--name", "animals-of-mine")
    assert (
        "'animals-of-mine' exists; choose another name, or pass --overwrite" in message
    )
    again = ["import", "folders", folder, "--name", "animals-of-mine", "--overwrite"]
    assert "1 image of 1 identity" in printed(capsys, *again)
    with pytest.raises(SystemExit):
        printed(capsys, "import", "csv", folder, "--column", "identity")
    assert "'identity' is not of the form FIELD=COLUMN" in capsys.readouterr().err


def test_explain_uses_the_imported_protocol(tmp_path: Path, capsys: Output) -> None:
    draw(tmp_path, MARKET)
    printed(capsys, "import", "market1501", str(tmp_path), "--name", "tiny-market")
    explain = ["explain", "tiny-market", "--model", "demo", "--k", "1"]
    note = "Using the protocol that was imported with the dataset."
    assert printed(capsys, *explain).startswith(f"{note}\n")
    dataset = fo.load_dataset("tiny-market")
    protocol = Protocol.from_dict(load_run(dataset, "sfam").config.protocol)
    assert protocol == load_protocol(dataset)
    own = [*explain, "--key", "own", "--identity-field", "identity"]
    assert note not in printed(capsys, *own)
    protocol = Protocol.from_dict(load_run(dataset, "own").config.protocol)
    assert protocol == Protocol("identity")


def test_explain_compares_the_imported_boxes(tmp_path: Path, capsys: Output) -> None:
    draw(tmp_path, ["1.png", "2.png"])
    text = "path,identity,x,y,w,h\n1.png,a,0,0,2,8\n1.png,b,2,0,2,8\n2.png,a,0,0,4,8\n"
    write(tmp_path, {"metadata.csv": text})
    made = printed(capsys, "import", "csv", str(tmp_path), "--name", "tiny-boxes")
    assert made.startswith("2 images with 3 boxes of 2 identities\n")
    explain = ["explain", "tiny-boxes", "--model", "demo", "--k", "1"]
    note = "Using the boxes that were imported, in 'detections'."
    assert printed(capsys, *explain).startswith(f"{note}\n")
    run = load_run(fo.load_dataset("tiny-boxes"), "sfam")
    assert run.config.patches_field == "detections"
    assert list(run.items.identities) == ["a", "b", "a"]


def test_market_gives_the_figures_of_osnet(
    assets_dir: Path, tmp_path: Path, capsys: Output, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Rank-1 and mAP of the assets, from one import and one explain."""
    entry = {
        "factory": f"{assets_dir / 'reference_models.py'}:OSNet",
        "weights": str(assets_dir / "weights" / "osnet_x0_25_msmt17.pth"),
        "preprocess": {"size": [256, 128]},
    }
    registry = write(
        tmp_path, {"models.json": json.dumps({"models": {"osnet": entry}})}
    )
    monkeypatch.setenv("FIFTYONE_SFAM_MODELS", str(registry / "models.json"))
    folder = str(assets_dir / "data" / "market1501_subset")
    imported = printed(
        capsys, "import", "market1501", folder, "--name", "market-subset"
    )
    assert imported.startswith("545 images of 60 identities\n")
    printed(capsys, "explain", "market-subset", "--model", "osnet", "--k", "1")
    run = load_run(fo.load_dataset("market-subset"), "sfam")
    ranked = evaluate_retrieval(run, resamples=1).identification
    assert round(float(ranked.cmc(1)[0]), 4) == 0.7560
    assert round(ranked.mean_average_precision, 3) == 0.565
