"""The command line."""

from fiftyone_sfam.cli.entry import main as main
