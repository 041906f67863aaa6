"""The command line."""

from fiftyone_sfam.cli.program import main as main
