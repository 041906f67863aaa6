"""Messages as a user of the App gets to read them: without the server's folders.

A library's message names the file that it is about, folders and all, for whoever sits
at the machine. In a shared deployment the reader is somebody else: where the registry,
the weights or the images lie is the owner's to know. The log has the whole message.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import Any, TypeVar

import fiftyone.operators as foo

from fiftyone_sfam.errors import SfamError
from fiftyone_sfam.models.registry import registry_path

_LOG = logging.getLogger("fiftyone_sfam")

# An absolute path's folders, as they begin on either kind of system. What is one
# without an end of its own, as a name with spaces, is cut as far as it can be told.
_FOLDERS = re.compile(
    r"(?:file:/{2,3}|(?<![\w.:/\\-])(?:[A-Za-z]:[\\/]|[\\/]{1,2}|~/))"
    r"(?:[^\\/'\"<>|:*?\n]*?[^\\/\s'\"<>|:*?~][\\/])+(?=[^\\/\s])"
)

Operator = TypeVar("Operator", bound=foo.Operator)
Execute = Callable[[Operator, foo.ExecutionContext], dict[str, Any]]


def for_user(message: object) -> str:
    """Cut the folders off all absolute paths in a message."""
    text = str(message)
    # Folders that are known are cut whatever they are called.
    for folder in (registry_path().parent, Path.home()):
        for separator in ("/", "\\"):
            text = text.replace(f"{folder}{separator}", "")
    return _FOLDERS.sub("", text)


def for_users(execute: Execute[Operator]) -> Execute[Operator]:
    """Make an operator's ``execute`` fail with messages that users may read."""

    @wraps(execute)
    def executed(self: Operator, ctx: foo.ExecutionContext) -> dict[str, Any]:
        try:
            return execute(self, ctx)
        except SfamError as error:
            shown = for_user(error)
            if shown == str(error):
                raise
            _LOG.warning("%s: %s", self.config.name, error)
            # FiftyOne sends the traceback to the App, with all that it came from.
            raise type(error)(shown) from None

    return executed
