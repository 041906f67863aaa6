"""Puts copies of the plugin's manifest and skills into the wheel.

`fiftyone-sfam install` writes the plugin's folder from them where there is no checkout
to link to. An editable install has the checkout, and must not get a second manifest.
"""

from __future__ import annotations

from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface


class ManifestHook(BuildHookInterface):
    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        if version != "editable":
            for name in ("fiftyone.yml", "skills"):
                build_data["force_include"][name] = f"fiftyone_sfam/app/{name}"
