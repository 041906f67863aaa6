"""Commands, executed in this process, and what they print."""

from __future__ import annotations

import re

import pytest

from fiftyone_sfam.cli.entry import main

Output = pytest.CaptureFixture[str]


def printed(capsys: Output, *argv: str) -> str:
    """What a command prints that goes well."""
    capsys.readouterr()
    assert main(argv) == 0
    captured = capsys.readouterr()
    assert captured.err == ""
    return captured.out


def refused(capsys: Output, *argv: str) -> str:
    """The sentence with which a command ends."""
    capsys.readouterr()
    assert main(argv) == 2
    error = capsys.readouterr().err
    assert error.startswith("fiftyone-sfam: ")
    assert error.count("\n") == 1
    return error


def rows(text: str, first: str) -> list[list[str]]:
    """The cells of the table whose head begins like this."""
    lines = text.splitlines()
    start = next(i for i, line in enumerate(lines) if line.lstrip().startswith(first))
    found = []
    for line in lines[start + 1 :]:
        if not line:
            break
        found.append(re.split(r"  +", line.strip()))
    return found
