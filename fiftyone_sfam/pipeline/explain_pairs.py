"""Make a run of pairs that the user gives, instead of nearest neighbors."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fiftyone_sfam.data.pair_list import PairList, read_pairs
from fiftyone_sfam.data.protocol import Protocol
from fiftyone_sfam.models.wrap import ModelLike
from fiftyone_sfam.pipeline.explain import make_run
from fiftyone_sfam.pipeline.options import RunOptions
from fiftyone_sfam.pipeline.pair_source import Listed
from fiftyone_sfam.runs.run import Run

if TYPE_CHECKING:
    import pandas as pd
    from fiftyone.core.collections import SampleCollection


def explain_pairs(
    samples: SampleCollection,
    model: ModelLike,
    pairs: str | Path | pd.DataFrame | Sequence[Sequence[Any]] | PairList,
    *,
    key: str = "pairs",
    columns: Mapping[str, str] | None = None,
    identity_field: str | None = None,
    camera_field: str | None = None,
    name_field: str | None = None,
    **options: Any,
) -> Run:
    """Explain the pairs of a list, and store the maps as a run.

    The run is like any other, except that its pairs are the list's: the images that
    the list names pass through the network once, however many pairs there are. Rows
    whose images are missing or cannot be read are skipped and counted;
    :attr:`fiftyone_sfam.Run.given` has their reasons.

    Parameters
    ----------
    samples : fiftyone dataset or view
        Images that the list names; others are left alone.
    model : EmbeddingModel, str, FiftyOne model, or torch.nn.Module
        Model, as for :func:`fiftyone_sfam.explain_retrieval`.
    pairs : path, DataFrame, or sequence
        A CSV file, a file in the format of LFW's ``pairs.txt``, a table, or a sequence
        of ``(query, gallery)`` or ``(query, gallery, label)``, see
        :func:`fiftyone_sfam.data.pair_list.read_pairs`. An image is named by its id, by
        its path, or by the end of its path, with or without the file's ending. With
        ranks, the list is a ranking: that of another engine, or a re-ranked one.
    key : str
        Key of the run, and prefix of its fields.
    columns : mapping, optional
        Names of the columns of a CSV file or table by ``"query"``, ``"gallery"``,
        ``"label"``, ``"fold"``, ``"rank"`` and ``"score"``.
    identity_field, camera_field : str, optional
        Fields of identities and cameras. A pair's own label decides its outcome; pairs
        without one are judged by the identities.
    name_field : str, optional
        Field that holds the list's names of the images, instead of their paths.
    **options : Any
        ``patches_field``, ``embeddings``, ``layer``, ``kinds``, ``path_pairs``,
        ``check``, ``weights``, ``map_dtype``, ``contributions``, ``contribution_dims``,
        ``batch_size``, ``num_workers``, ``cache_bytes``, ``overwrite``, ``update``,
        ``progress``, ``engine``, ``engine_options`` and ``keep_index`` of
        :func:`fiftyone_sfam.explain_retrieval`. With ``patches_field``, names are ids
        of detections, or of images with one detection.

    Returns
    -------
    Run
        The stored run. Without ranks in the list, the rank of a pair is its place by
        distance among the query's pairs of the list.

    Raises
    ------
    DataError
        If the list cannot be read, contradicts itself, or names no pair of images; or
        as for :func:`fiftyone_sfam.explain_retrieval`.
    ModelError, RunError
        As for :func:`fiftyone_sfam.explain_retrieval`.

    Warns
    -----
    SfamWarning
        If the maps carry less than a tenth of the similarity.
    """
    protocol = Protocol(identity_field, camera_field=camera_field)
    listed = Listed(read_pairs(pairs, columns), protocol, name_field)
    return make_run(samples, model, listed, RunOptions(key=key, **options))
