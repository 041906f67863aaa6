"""The command line, on a real dataset, and its mistakes as sentences."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
import urllib.request
import uuid
from collections.abc import Iterator
from pathlib import Path

import fiftyone as fo
import numpy as np
import pytest

from fiftyone_sfam import delete_run
from fiftyone_sfam._version import __version__
from fiftyone_sfam.app.install import PLUGIN_NAME, install_plugin
from fiftyone_sfam.cli import entry
from fiftyone_sfam.cli.entry import DEMO_DATASET, main
from fiftyone_sfam.cli.support import with_options
from fiftyone_sfam.data.protocol import Protocol, Within
from fiftyone_sfam.demo.dataset import load_demo_dataset
from fiftyone_sfam.demo.world import DefectPlan
from fiftyone_sfam.errors import SfamError
from fiftyone_sfam.pipeline.explain import explain_retrieval
from fiftyone_sfam.runs.run import list_runs, load_run
from paths import ROOT
from services import free_port

PLUGIN_PATH = PLUGIN_NAME.split("/")


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        ([], "required: COMMAND"),
        (["explain"], "required: dataset, --model"),
        (
            ["explain", "d", "--model", "m", "--k", "0"],
            "--k: 0 is out of range; give 1 to 2147483647",
        ),
        (["explain", "d", "--model", "m", "--engine", "dask"], "choice: 'dask'"),
        (
            ["explain", "d", "--model", "m", "--k", "five"],
            "--k: 'five' is not a whole number; give 1 to 2147483647",
        ),
        (
            ["explain", "d", "--model", "m", "--num-workers", "-1"],
            "--num-workers: -1 is out of range; give 0 or more",
        ),
        (
            [
                "explain",
                "d",
                "--model",
                "m",
                "--brain-key",
                "b",
                "--embeddings-field",
                "e",
            ],
            "--embeddings-field: not allowed with argument --brain-key",
        ),
        (["runs", "d", "--rename", "old"], "--rename: expected 2 arguments"),
        (
            ["runs", "d", "--rename", "a", "b", "--delete", "a"],
            "--delete: not allowed with argument --rename",
        ),
        (["demo", "--port", "70000"], "--port: 70000 is out of range; give 1 to 65535"),
    ],
)
def test_wrong_arguments(
    argv: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as exited:
        main(argv)
    assert exited.value.code == 2
    assert message in capsys.readouterr().err


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as exited:
        main(["--version"])
    assert exited.value.code == 0
    assert capsys.readouterr().out == f"{__version__}\n"


def test_explain_and_runs(
    people: fo.Dataset, capsys: pytest.CaptureFixture[str]
) -> None:
    explain = ["explain", people.name, "--model", "demo", "--key", "mine", "--k", "2"]
    fields = ["--identity-field", "identity", "--camera-field", "camera"]
    assert main(explain + fields) == 0
    summary = dict(
        line.rsplit(maxsplit=1) for line in capsys.readouterr().out.splitlines()
    )
    assert summary["dataset"] == people.name
    assert summary["run"] == "mine"
    assert summary["images"] == str(len(people))
    assert int(summary["pairs"]) >= 2 * len(people)
    assert float(summary["seconds"]) > 0
    config = load_run(people, "mine").config
    assert config.k == 2
    assert Protocol.from_dict(config.protocol) == Protocol(
        identity_field="identity", camera_field="camera"
    )

    # The key exists: refused in a sentence, and replaced when asked.
    assert main(explain) == 2
    assert capsys.readouterr().err == (
        f"fiftyone-sfam: '{people.name}' has a run 'mine' already; give --overwrite to "
        "replace it, or another --key.\n"
    )
    assert main([*explain, "--overwrite"]) == 0

    assert main(["runs", people.name, "--rename", "mine", "ours"]) == 0
    capsys.readouterr()
    assert main(["runs", people.name]) == 0
    assert capsys.readouterr().out == "ours\n"
    assert main(["runs", people.name, "--delete", "ours"]) == 0
    assert list_runs(people) == []
    capsys.readouterr()
    assert main(["runs", people.name]) == 0
    assert capsys.readouterr().out == f"'{people.name}' has no runs.\n"


def test_runs_are_brought_up_to_date(
    people: fo.Dataset, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    ids, paths = people.values(["id", "filepath"])
    names = [Path(path).name for path in paths]
    listed = tmp_path / "pairs.csv"
    rows = [f"{names[first]},{names[second]}" for first, second in ((0, 1), (1, 3))]
    listed.write_text("\n".join(["query,gallery", *rows]))
    explain = ["explain", people.name, "--model", "demo", "--k", "2"]
    given = ["explain-pairs", people.name, "--model", "demo", "--pairs", str(listed)]
    for argv, key in ((explain, "sfam"), (given, "pairs")):
        assert main(argv) == 0
        first = load_run(people, key).config
        assert main(argv) == 2  # the run exists
        assert main([*argv, "--update"]) == 0
        # Nothing has changed, and so nothing is made anew.
        assert load_run(people, key).config.uid == first.uid
        capsys.readouterr()
        with pytest.raises(SystemExit):
            main([*argv, "--update", "--overwrite"])
        assert "not allowed with argument --update" in capsys.readouterr().err
    listed.write_text("\n".join(["query,gallery", rows[1]]))
    assert main([*given, "--update"]) == 2
    message = (
        "other settings (list_digest), so nothing of it can be kept; give --overwr"
    )
    assert message in capsys.readouterr().err
    listed.write_text("\n".join(["query,gallery", *rows]))

    people.delete_samples(ids[:1])
    assert main([*given, "--update"]) == 0
    shown = capsys.readouterr().out
    assert re.search(r"pairs +1\n", shown)
    assert f"skipped row 0: '{names[0]}' is not in the view." in shown
    run = load_run(people, "pairs")
    assert run.items.sample_ids.tolist() == [ids[1], ids[3]]
    assert main([*explain, "--update"]) == 0
    assert re.search(rf"images +{len(ids) - 1}\n", capsys.readouterr().out)
    run = load_run(people, "sfam")
    assert run.items.sample_ids.tolist() == ids[1:]
    assert main([*explain, "--key", "new"]) == 0
    fresh = load_run(people, "new")
    np.testing.assert_array_equal(run.pairs.gallery, fresh.pairs.gallery)
    np.testing.assert_allclose(run.pairs.similarity, fresh.pairs.similarity, atol=1e-6)


def test_explain_by_measurement(
    people: fo.Dataset, capsys: pytest.CaptureFixture[str]
) -> None:
    explain = ["explain", people.name, "--model", "demo", "--k", "1", "--key", "auto"]
    auto = ["--kind", "auto", "--layer", "auto", "--no-check"]
    assert main([*explain, *auto]) == 0
    run, out = load_run(people, "auto"), capsys.readouterr().out
    assert run.config.chosen["asked"] == ["layer", "kinds"]
    rows = " ".join(out.split())
    assert f"chosen {run.config.chosen['sentence']}" in rows
    assert "maps These maps were not measured: check=False was given; " in rows
    delete_run(people, "auto")
    assert main([*explain, "--layer", "features.5"]) == 0
    assert load_run(people, "auto").config.layer == "features.5"
    delete_run(people, "auto")
    assert main([*explain, "--layer", "nowhere"]) == 2
    assert "nowhere" in capsys.readouterr().err


def test_kinds_of_map(people: fo.Dataset, capsys: pytest.CaptureFixture[str]) -> None:
    explain = ["explain", people.name, "--model", "demo", "--k", "1", "--kind"]
    assert main([*explain, "path"]) == 2
    assert "add 'evidence'" in capsys.readouterr().err
    kinds = ["best", "--kind", "evidence", "--path-pairs", "false"]
    assert main([*explain, *kinds]) == 0
    config = load_run(people, "sfam").config
    assert config.kinds == ("scales", "evidence")
    assert config.path_pairs == "false"


def test_protocol_and_stored_embeddings_reach_the_run(
    people: fo.Dataset, capsys: pytest.CaptureFixture[str]
) -> None:
    rng = np.random.default_rng(0)
    people.set_values("wrong", list(rng.normal(size=(len(people), 128))))
    explain = ["explain", people.name, "--model", "demo"]
    # The model's embeddings have 64 numbers.
    assert main([*explain, "--embeddings-field", "wrong"]) == 2
    assert "128 numbers" in capsys.readouterr().err

    people.match_tags("query").tag_samples("probe")
    junk, distractor = people.distinct("identity")[:2]
    options = (
        "--identity-field identity --split-field tags --query-value probe"
        f" --junk {junk} --distractor {distractor} --exclude-duplicates"
        " --exclude identity,camera --exclude camera,created_at:1.5s"
        " --gallery-shots 2 --gallery-per identity,camera --draws 3 --draw-seed 4"
    )
    more = ["--contributions", "int8", "--contribution-dims", "16"]
    assert main([*explain, *options.split(), "--batch-size", "7", *more]) == 0
    config = load_run(people, "sfam").config
    least, median = config.contribution_agreement
    assert 0.9 < least < median
    shown = capsys.readouterr().out
    assert re.search(rf"contribution bytes +{config.contribution_bytes}\n", shown)
    assert f"{least:.4g}, {median:.4g}\n" in shown
    assert (config.contributions, config.contribution_dims) == ("int8", 16)
    assert Protocol.from_dict(config.protocol) == Protocol(
        identity_field="identity",
        split_field="tags",
        query_value="probe",
        junk=(junk,),
        distractors=(distractor,),
        exclude_duplicates=True,
        exclude=[("identity", "camera"), ("camera", Within("created_at", seconds=1.5))],
        gallery_shots=2,
        gallery_per=("identity", "camera"),
        draws=3,
        seed=4,
    )
    people.set_values("camera", ["one"] * len(people))
    people.set_values("probe", [number < 9 for number in range(len(people))])
    options = "--identity-field identity --exclude identity,camera --query-field probe"
    assert main([*explain, *options.split(), "--key", "cameras"]) == 0
    found = capsys.readouterr()
    said = "identity,camera\u2069 leaves out every true match of all 9 labeled queries"
    assert said in found.err  # before the run
    assert said in found.out  # and in its summary
    assert re.search(r"without match +9\n", found.out)
    assert main([*explain, "--key", "wrong", "--exclude", "identity,"]) == 2
    assert "'identity,' has a term without a name" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["runs", "no-such"], "There is no dataset 'no-such'"),
        (["explain", "no-such", "--model", "demo"], "There is no dataset 'no-such'"),
    ],
)
def test_unknown_dataset(
    argv: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(argv) == 2
    assert message in capsys.readouterr().err


def test_unknown_model(people: fo.Dataset, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["explain", people.name, "--model", "no-such"]) == 2
    assert "'no-such'" in capsys.readouterr().err


def test_demo_leaves_a_dataset_of_its_name_alone(
    capsys: pytest.CaptureFixture[str],
) -> None:
    fo.Dataset(DEMO_DATASET)
    try:
        assert main(["demo", "--no-app"]) == 2
        assert f"'{DEMO_DATASET}' exists" in capsys.readouterr().err
        assert fo.dataset_exists(DEMO_DATASET)
    finally:
        fo.delete_dataset(DEMO_DATASET)


def test_demo_serves_the_app(tmp_path: Path) -> None:
    port = free_port()
    plugins = tmp_path / "plugins"
    log = tmp_path / "demo.log"
    command = f"demo --identities 24 --port {port} --address 127.0.0.1"
    with log.open("w") as out:
        process = subprocess.Popen(
            [sys.executable, "-m", "fiftyone_sfam", *command.split()],
            env={**os.environ, "FIFTYONE_PLUGINS_DIR": str(plugins)},
            stdout=out,
            stderr=subprocess.STDOUT,
            # Whoever runs the tests in the background may have them ignore Ctrl-C.
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        )
    url = f"http://127.0.0.1:{port}/datasets/{DEMO_DATASET}"
    try:
        while f"The App is at {url}" not in log.read_text():
            assert process.poll() is None, log.read_text()
            time.sleep(0.2)
        with urllib.request.urlopen(url, timeout=20) as answer:
            assert answer.status == 200
        dataset = fo.load_dataset(DEMO_DATASET)
        assert list_runs(dataset) == ["sfam"]
        assert len(dataset) > 100
        assert plugins.joinpath(*PLUGIN_PATH).resolve() == ROOT
        process.send_signal(signal.SIGINT)
        assert process.wait(timeout=60) == 130
        assert "Traceback" not in log.read_text()
    finally:
        process.kill()
        process.wait()
        if fo.dataset_exists(DEMO_DATASET):
            fo.delete_dataset(DEMO_DATASET)


def test_install_links_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    target = tmp_path.joinpath("new", *PLUGIN_PATH)
    install = ["install", "--plugins-dir", str(tmp_path / "new")]
    assert main(install) == 0
    assert main(install) == 0
    assert capsys.readouterr().out.splitlines() == [
        f"The plugin {PLUGIN_NAME} is now linked at {target}.",
        f"The plugin {PLUGIN_NAME} is already linked at {target}.",
    ]
    assert target.is_symlink()
    assert target.resolve() == ROOT


def test_install_goes_to_fiftyones_folder(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(fo.config, "plugins_dir", str(tmp_path))
    assert main(["install"]) == 0
    assert tmp_path.joinpath(*PLUGIN_PATH).resolve() == ROOT


def test_install_changes_between_link_and_folder(tmp_path: Path) -> None:
    target = tmp_path.joinpath(*PLUGIN_PATH)
    for copy, action in ((True, "written"), (True, "written"), (False, "linked")):
        assert install_plugin(tmp_path, copy=copy).action == action
    assert install_plugin(tmp_path, copy=True).action == "written"
    files = {p.relative_to(target) for p in target.rglob("*") if p.is_file()}
    app = Path("fiftyone_sfam", "app")
    bundle = app / "viewer" / "viewer.js"
    skills = {p.relative_to(ROOT) for p in (ROOT / "skills").rglob("*.md")}
    assert len(skills) == 3
    assert files == {Path("fiftyone.yml"), app / "entry.py", bundle, *skills}
    # The checkout that the link led to is untouched.
    assert (ROOT / "pyproject.toml").is_file()


def test_install_replaces_dangling_link(tmp_path: Path) -> None:
    target = tmp_path.joinpath(*PLUGIN_PATH)
    target.parent.mkdir()
    target.symlink_to(tmp_path / "gone")
    assert install_plugin(tmp_path).action == "linked"
    assert target.resolve() == ROOT


def test_install_refuses_what_is_not_ours(tmp_path: Path) -> None:
    target = tmp_path.joinpath(*PLUGIN_PATH)
    target.mkdir(parents=True)
    notes = target / "notes.txt"
    notes.write_text("keep")
    with pytest.raises(SfamError, match="do not belong to this plugin"):
        install_plugin(tmp_path)
    (target / "fiftyone.yml").write_text(f'name: "{PLUGIN_NAME}"')
    with pytest.raises(SfamError, match="holds a whole copy of this plugin"):
        install_plugin(tmp_path, copy=True)
    assert notes.read_text() == "keep"


def test_install_refuses_link_to_another_plugin(tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.mkdir()
    (other / "fiftyone.yml").write_text('name: "@else/where"')
    target = tmp_path.joinpath("plugins", *PLUGIN_PATH)
    target.parent.mkdir(parents=True)
    target.symlink_to(other)
    with pytest.raises(SfamError, match="which is not this plugin"):
        install_plugin(tmp_path / "plugins")
    assert target.resolve() == other


# Prints which commands had imported torch when they were refused, as far as they were.
REFUSALS = """
import sys
from fiftyone_sfam.cli import main
for line in sys.stdin.read().splitlines():
    try:
        code = main(line.split())
    except SystemExit as exited:
        code = exited.code
    print(line, "| code", code, "| torch", "torch" in sys.modules)
"""


def test_mistakes_are_refused_before_torch_is_imported(
    people: fo.Dataset, tmp_path: Path
) -> None:
    name = people.name
    run = explain_retrieval(people, "demo", k=1)
    assert run.key == "sfam"
    report = tmp_path / "report"
    assert main(["report", name, "--out", str(report), "--no-parquet"]) == 0
    explain = f"explain {name} --model demo"
    refusals = {
        f"{explain} --k 0": "--k: 0 is out of range; give 1 to 2147483647",
        f"{explain} --engine dask": "invalid choice: 'dask'",
        f"{explain} --neighbors index": "--neighbors index needs a similarity index; "
        "give its name as --brain-key.",
        f"{explain} --neighbors index --embeddings-field e": "give its name as",
        f"{explain} --ray-workers 2": "give --engine ray, or leave them out.",
        f"{explain} --gpus-per-worker 0.5": "give --engine ray, or leave them out.",
        f"{explain} --junk 0": "identities need --identity-field to be given.",
        f"{explain} --identity-field i --junk 0 --distractor 0": "choose one.",
        explain: f"'{name}' has a run 'sfam' already; give --overwrite to replace it, "
        "or another --key.",
        f"{explain} --key a-b": "the run key 'a-b' cannot be used",
        "explain no-such --model demo": "There is no dataset 'no-such'",
        "runs no-such": "There is no dataset 'no-such'",
        f"runs {name} --delete x": "no explained run 'x' to delete",
        f"evaluate {name} x": "no explained run 'x'",
        f"evaluate {name}": "has an identity",
        f"faithfulness {name} x": "no explained run 'x'",
        f"faithfulness {name} --fill black": "invalid choice: 'black'",
        f"regions {name} --field identity": "no field 'identity' of masks",
        f"suspects {name} --kind ghost": "--kind is ['ghost']; choose from",
        f"suspects {name} --min-score 2": "--min-score is 2.0; use a number that",
        f"report {name} --out {report}": "give --overwrite",
        f"verdicts {name} --note n": "--note belongs to a verdict; give --set",
        f"verdicts {name} --set 99999 fine": "no pair 99999",
        f"fixes {name} --from {tmp_path}/none.json": "cannot be read",
        f"fixes {name} --force": "--force needs --undo",
        f"fixes {name} --undo --from x": "--undo reads no corrections",
        f"prune {name} --older-than -1": "-1 is out of range; give 0 to 1000000",
    }
    done = subprocess.run(
        [sys.executable, "-c", REFUSALS],
        input="\n".join(refusals),
        capture_output=True,
        text=True,
        check=True,
    )
    # FiftyOne prints of its own.
    lines = [line for line in done.stdout.splitlines() if " | code " in line]
    assert lines == [f"{line} | code 2 | torch False" for line in refusals]
    assert [text for text in refusals.values() if text not in done.stderr] == []
    assert "=True" not in done.stderr


@pytest.mark.parametrize(
    ("message", "shown"),
    [
        ("give overwrite=True to replace it.", "give --overwrite to replace it."),
        ("give embeddings_field='x', or not.", "give --embeddings-field 'x', or not."),
        ("k is 7; give less.", "--k is 7; give less."),
        ("a key k, or a model.", "a key k, or a model."),
        ("needs batch_size.", "needs --batch-size."),
        ("no 'batch_size' in 'a' overwrite=True", "no 'batch_size' in 'a' --overwrite"),
        ("the run's batch_size 'k=1'", "the run's --batch-size 'k=1'"),
        ("distractors is 'x'", "--distractor is 'x'"),
        ("seed is 1", "seed is 1"),
    ],
)
def test_messages_name_the_options_of_the_command(message: str, shown: str) -> None:
    parser = entry._parser().parse_args(["explain", "d", "--model", "m"]).parser
    assert with_options(message, parser) == shown


@pytest.fixture
def people(tmp_path: Path) -> Iterator[fo.Dataset]:
    dataset = load_demo_dataset(
        f"cli-{uuid.uuid4().hex[:8]}",
        directory=tmp_path / "people",
        identities=4,
        images_per_identity=4,
        defects=DefectPlan.none(),
    )
    yield dataset
    fo.delete_dataset(dataset.name)
