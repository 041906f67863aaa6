"""The version of the package; ``fiftyone.yml`` repeats it and a test compares them."""

__version__ = "0.1.0"
