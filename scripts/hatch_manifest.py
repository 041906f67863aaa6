"""Puts a copy of the plugin's manifest into the wheel.

`fiftyone-sfam install` writes the plugin's folder from it where there is no checkout to
link to. An editable install has the checkout, and must not get a second manifest.
"""

from __future__ import annotations

from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface


class ManifestHook(BuildHookInterface):
    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        if version != "editable":
            copy = "fiftyone_sfam/app/fiftyone.yml"
            build_data["force_include"]["fiftyone.yml"] = copy
