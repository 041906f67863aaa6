"""Networks of torch.hub: ``hub:REPO:ENTRY``, a folder or a GitHub repository."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import nn

from fiftyone_sfam.data.text import type_and_first_line
from fiftyone_sfam.errors import ModelError
from fiftyone_sfam.models.sources import SourceOptions
from fiftyone_sfam.models.sources.built import Built, InputConfig


def build(name: str, options: SourceOptions) -> Built:
    """Build a network of a repository with a ``hubconf.py``.

    Naming a repository is trusting it, so torch is not asked to ask: an answer cannot
    be typed on a server.
    """
    repository, _, entry = name.rpartition(":")
    if not repository or not entry:
        raise ModelError(
            f"'hub:{name}' names no entry; give hub:REPO:ENTRY, such as "
            "hub:facebookresearch/dinov2:dinov2_vits14."
        )
    kwargs = dict(options.kwargs)
    if options.pretrained is not None:
        kwargs["pretrained"] = options.pretrained
    folder = options.folder / Path(repository).expanduser()
    local = (folder / "hubconf.py").is_file()
    try:
        network = torch.hub.load(
            str(folder) if local else repository,
            entry,
            source="local" if local else "github",
            trust_repo=True,
            **kwargs,
        )
    # The repository's code may raise any error.
    except Exception as error:
        raise ModelError(
            f"torch.hub could not build '{entry}' of '{repository}' "
            f"({type_and_first_line(error)})."
        ) from error
    if not isinstance(network, nn.Module):
        raise ModelError(
            f"'{entry}' of '{repository}' returned {type(network).__name__}; a "
            "torch.nn.Module is needed."
        )
    if hasattr(network, "pretrained_cfg"):
        from fiftyone_sfam.models.sources.timm_models import config_of

        return Built(network, config_of(network))
    return Built(network, InputConfig(), options.embedding)
