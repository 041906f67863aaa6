"""How the App shows the fields of a run: sidebar group, colors, descriptions."""

from __future__ import annotations

import fiftyone as fo
import pytest
from fiftyone.core.odm.dataset import SidebarGroupDocument

from fiftyone_sfam import delete_run, explain_retrieval, rename_run
from fiftyone_sfam.runs.app_config import HEATMAP_COLOR, OUTCOME_COLORS
from fiftyone_sfam.runs.run import Run
from worlds import REID, tiny_model


def explain(dataset: fo.Dataset, key: str = "run", **options: object) -> Run:
    return explain_retrieval(
        dataset, tiny_model(), key=key, k=2, protocol=REID, **options
    )


def groups(dataset: fo.Dataset) -> dict[str, list[str]]:
    """Return the groups of the sidebar as they are stored."""
    dataset.reload()
    found = dataset.app_config.sidebar_groups or []
    return {group.name: list(group.paths) for group in found}


def colors(dataset: fo.Dataset) -> dict[str, dict]:
    dataset.reload()
    scheme = dataset.app_config.color_scheme
    return {entry["path"]: dict(entry) for entry in (scheme.fields if scheme else [])}


OWN = ["run", "run_score", "run_outcome", "run_neighbors"]


def test_a_run_has_a_group_and_colors(world: fo.Dataset) -> None:
    default = fo.DatasetAppConfig.default_sidebar_groups(world)
    before = {group.name: list(group.paths) for group in default}
    explain(world)
    assert groups(world) == {**before, "SFAM run": OWN}
    found = colors(world)
    assert set(found) == {"run", "run_outcome", "run_neighbors"}
    assert found["run"]["fieldColor"] == HEATMAP_COLOR
    assert found["run_neighbors"]["colorByAttribute"] == "outcome"
    shown = {one["value"]: one["color"] for one in found["run_outcome"]["valueColors"]}
    assert shown == OUTCOME_COLORS
    for path in (*OWN, "run_neighbors.classifications.rank"):
        assert world.get_field(path).description, path
    # Made again, it is the same once.
    explain(world, overwrite=True)
    assert groups(world) == {**before, "SFAM run": OWN}
    assert len(world.app_config.color_scheme.fields) == 3

    explain(world, key="other")
    first, *others = before
    assert list(groups(world)) == [first, "SFAM other", "SFAM run", *others]
    delete_run(world, "run")
    assert list(groups(world)) == [first, "SFAM other", *others]
    assert set(colors(world)) == {"other", "other_outcome", "other_neighbors"}
    delete_run(world, "other")
    assert world.app_config.sidebar_groups is None
    assert world.app_config.color_scheme is None


def test_renamed_with_the_run(world: fo.Dataset) -> None:
    explain(world)
    rename_run(world, "run", "better")
    assert "SFAM run" not in groups(world)
    assert groups(world)["SFAM better"] == [
        "better",
        "better_score",
        "better_outcome",
        "better_neighbors",
    ]
    assert set(colors(world)) == {"better", "better_outcome", "better_neighbors"}
    delete_run(world, "better")
    assert world.app_config.sidebar_groups is None


def test_what_a_user_has_set_stays(world: fo.Dataset) -> None:
    world.app_config.sidebar_groups = [
        SidebarGroupDocument(name="mine", paths=["camera"], expanded=False),
        SidebarGroupDocument(name="rest", paths=["identity", "run_score"]),
    ]
    world.app_config.color_scheme = fo.ColorScheme(
        color_by="value", fields=[{"path": "run", "fieldColor": "#00ff00"}]
    )
    world.save()
    explain(world)
    assert groups(world) == {
        "mine": ["camera"],
        "rest": ["identity", "run_score"],
        "SFAM run": ["run", "run_outcome", "run_neighbors"],
    }
    assert world.app_config.sidebar_groups[0].expanded is False
    assert world.app_config.color_scheme.color_by == "value"
    assert colors(world)["run"]["fieldColor"] == "#00ff00"
    assert colors(world)["run_outcome"]["valueColors"]
    # What the user adds to the group outlives the run.
    world.app_config.sidebar_groups[2].paths.append("split")
    world.save()
    delete_run(world, "run")
    assert groups(world) == {
        "mine": ["camera"],
        "rest": ["identity"],
        "SFAM run": ["split"],
    }
    assert colors(world) == {"run": {"path": "run", "fieldColor": "#00ff00"}}
    assert world.app_config.color_scheme.color_by == "value"


@pytest.mark.parametrize("saved", [True, False])
def test_changes_that_another_process_has_saved(world: fo.Dataset, saved: bool) -> None:
    """The place of a group in the stored list is not that of the list in memory."""
    explain(world)
    collection = world._doc._get_collection()
    stored = collection.find_one({"_id": world._doc.id})["app_config"]
    first = {"name": "first", "paths": ["identity"]}
    stored["sidebar_groups"].insert(0, first)
    if saved:
        collection.update_one({"_id": world._doc.id}, {"$set": {"app_config": stored}})
    else:
        world.app_config.grid_media_field = "camera"
    delete_run(world, "run")
    if saved:
        assert groups(world)["first"] == ["identity"]
        assert "SFAM run" not in groups(world)
    else:
        # What was not saved yet in this process is, as FiftyOne itself does.
        assert world.app_config.grid_media_field == "camera"
        assert world.app_config.sidebar_groups is None


def test_detections_keep_their_place(frames: fo.Dataset) -> None:
    explain_retrieval(frames, tiny_model(), key="run", k=1, patches_field="people")
    assert groups(frames)["SFAM run"] == ["run"]
    assert set(colors(frames)) == {"run"}
    delete_run(frames, "run")
    assert frames.app_config.sidebar_groups is None
