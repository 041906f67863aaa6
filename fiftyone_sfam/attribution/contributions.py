"""Position contributions: what each position of an image adds to its embedding.

For a head with the Jacobian ``J`` at the feature map ``A`` of an image (see
:mod:`fiftyone_sfam.attribution.maps`), position ``p`` contributes a vector::

    C(p) = J A(p)                      (h, w, D)
    r    = e - sum over p of C(p)      (D,), what no position contributes

They belong to one image, and explain its similarity to *any* other, without the
network. With ``Z`` the normalizer of a pair, every map but ``sfam`` is an inner product
with them::

    evidence(p)   = <C_q(p), e_g> / Z
    contrast(p)   = <C_q(p), e_t / Z_t - e_i / Z_i>
    difference(p) = <C_q(p), u / |e_q|>, u = e_q / |e_q| - e_g / |e_g|, on both sides
    decision(p)   = <C_q(p), e_g / Z - t e_q / |e_q|^2>, with the threshold t
    point(p, p')  = <C_q(p), C_g(p')> / Z

The definitions are this project's. This module uses numpy only: a process that reads
stored contributions does not import torch.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from fiftyone_sfam.network.metric import Metric

Floats = NDArray[np.float32]

CONTRIBUTION_TYPES = ("int8", "float16")
"""Types in which contributions can be stored."""


@dataclass(frozen=True)
class Contributions:
    """The position contributions of one image.

    Attributes
    ----------
    values : ndarray of float32
        Contribution of each position, shape (h, w, K), with K = D, or the number of
        directions that they are projected to.
    remainder : ndarray of float32
        The part of the embedding that no position contributes, shape (K,).
    embedding : ndarray of float32
        Embedding of the image, shape (D,).
    basis : ndarray of float32, optional
        Orthonormal directions that ``values`` and ``remainder`` are projected to, shape
        (K, D).
    """

    values: Floats
    remainder: Floats
    embedding: Floats
    basis: Floats | None = None

    @property
    def shape(self) -> tuple[int, int]:
        """Height and width of the maps."""
        height, width = self.values.shape[:2]
        return height, width

    def project(self, vector: NDArray[Any]) -> Floats:
        """Return a vector of shape (D,) in the basis of the contributions, (K,)."""
        if np.shape(vector) != self.embedding.shape:
            raise ValueError(
                f"the vector has shape {np.shape(vector)}, but the image's embedding "
                f"has {self.embedding.shape}; both must be of the same model."
            )
        vector = np.asarray(vector, dtype=np.float32)
        return vector if self.basis is None else self.basis @ vector


@dataclass(frozen=True)
class ContributionMap:
    """A map of one image that is made from its contributions.

    Attributes
    ----------
    evidence : ndarray of float32
        Signed, shape (h, w), in units of the score.
    score : float
        What is explained: the similarity, the margin, or one side's share of the
        squared distance.
    remainder : float
        The part of the score that no position contributes.
    """

    evidence: Floats
    score: float
    remainder: float

    @property
    def error(self) -> float:
        """What storing the contributions in fewer bytes has changed in the sum."""
        return self.score - float(self.evidence.sum()) - self.remainder


Partner = Contributions | NDArray[Any]
"""The other image of a pair, or a vector such as the mean embedding of a template."""


def evidence(
    image: Contributions, partner: Partner, metric: Metric = "cosine"
) -> ContributionMap:
    """Explain the similarity of an image with a partner, on the image's side.

    Parameters
    ----------
    image : Contributions
        Image that is explained.
    partner : Contributions or ndarray
        The other image, or any vector of shape (D,), such as a template.
    metric : {"cosine", "euclidean"}
        Similarity that is explained.

    Returns
    -------
    ContributionMap
        With ``score`` the similarity.

    Examples
    --------
    >>> import numpy as np
    >>> from fiftyone_sfam.attribution.contributions import Contributions, evidence
    >>> values = np.array([[[3, 0], [0, 3]]], dtype=np.float32)
    >>> image = Contributions(values, np.float32([0, 1]), np.float32([3, 4]))
    >>> result = evidence(image, np.float32([0, 2]))
    >>> [[round(float(value), 3) for value in row] for row in result.evidence]
    [[0.0, 0.6]]
    >>> round(result.remainder, 3), round(result.score, 3)
    (0.2, 0.8)
    """
    other = _embedding(partner)
    return _explain(image, other / _normalizer(image.embedding, other, metric))


def toward(image: Contributions, vector: NDArray[Any]) -> ContributionMap:
    """Explain the inner product of an image's embedding with a vector.

    Parameters
    ----------
    image : Contributions
        Image that is explained.
    vector : ndarray
        Shape (D,), held constant.

    Returns
    -------
    ContributionMap
        With ``score`` the inner product.
    """
    return _explain(image, _double(vector))


def contrast(
    image: Contributions,
    true_match: Partner,
    impostor: Partner,
    metric: Metric = "cosine",
) -> ContributionMap:
    """Explain the margin between an image's true match and an impostor.

    Parameters
    ----------
    image : Contributions
        The query.
    true_match, impostor : Contributions or ndarray
        The two gallery images, or vectors of shape (D,).
    metric : {"cosine", "euclidean"}
        Similarity that is explained.

    Returns
    -------
    ContributionMap
        With ``score`` the margin; positive evidence speaks for the true match.
    """
    vector = np.zeros_like(_double(image.embedding))
    for partner, sign in ((true_match, 1), (impostor, -1)):
        other = _embedding(partner)
        vector += sign * other / _normalizer(image.embedding, other, metric)
    return _explain(image, vector)


def difference(
    query: Contributions, gallery: Contributions, metric: Metric = "cosine"
) -> tuple[ContributionMap, ContributionMap]:
    """Explain why two images are far apart.

    Parameters
    ----------
    query, gallery : Contributions
        The two images.
    metric : {"cosine", "euclidean"}
        Metric of the distance.

    Returns
    -------
    tuple of ContributionMap
        The query's side and the gallery image's. The score of the first minus that of
        the second is the squared distance: for the cosine that of the unit vectors, for
        the euclidean similarity that of the embeddings, divided by ``Z``.
    """
    first, second = _double(query.embedding), _double(gallery.embedding)
    if metric == "cosine":
        lengths = np.linalg.norm(first), np.linalg.norm(second)
        apart = first / lengths[0] - second / lengths[1]
        return _explain(query, apart / lengths[0]), _explain(
            gallery, apart / lengths[1]
        )
    vector = (first - second) / _normalizer(first, second, metric)
    return _explain(query, vector), _explain(gallery, vector)


def decision(
    image: Contributions,
    partner: Partner,
    threshold: float,
    metric: Metric = "cosine",
) -> ContributionMap:
    """Explain why a pair is accepted or rejected at a threshold.

    The map is the evidence toward the partner minus ``threshold`` times the evidence of
    the image toward itself.

    Parameters
    ----------
    image : Contributions
        Image that is explained.
    partner : Contributions or ndarray
        The other image, or any vector of shape (D,), such as a template.
    threshold : float
        Similarity from which pairs are accepted.
    metric : {"cosine", "euclidean"}
        Similarity that is explained.

    Returns
    -------
    ContributionMap
        With ``score`` the similarity minus the threshold; positive evidence speaks for
        acceptance.
    """
    own, other = _double(image.embedding), _embedding(partner)
    vector = other / _normalizer(own, other, metric) - threshold * own / (own @ own)
    return _explain(image, vector)


def points(
    query: Contributions, gallery: Contributions, metric: Metric = "cosine"
) -> Floats:
    """Compute how much each pair of positions contributes to the similarity.

    Parameters
    ----------
    query, gallery : Contributions
        The two images, with contributions in the same basis.
    metric : {"cosine", "euclidean"}
        Similarity that is explained.

    Returns
    -------
    ndarray of float32
        Shape (h, w, h', w'): the sum over the gallery image's positions is the query's
        evidence, up to what the gallery image's remainder contributes.
    """
    left, right = (
        side.values.reshape(-1, side.values.shape[-1]) for side in (query, gallery)
    )
    scale = _normalizer(query.embedding, gallery.embedding, metric)
    product = left @ right.T / np.float32(scale)
    return product.reshape(*query.shape, *gallery.shape)


def point(
    image: Contributions,
    position: tuple[int, int],
    partner: Contributions,
    metric: Metric = "cosine",
) -> Floats:
    """Map which places of the other image a place of one image is matched with.

    Parameters
    ----------
    image : Contributions
        Image of the place.
    position : tuple of int
        Row and column of the place.
    partner : Contributions
        The other image.
    metric : {"cosine", "euclidean"}
        Similarity that is explained.

    Returns
    -------
    ndarray of float32
        Map of the other image, shape (h', w').

    Raises
    ------
    ValueError
        If the place lies outside the maps.
    """
    height, width = image.shape
    row, column = position
    if not (0 <= row < height and 0 <= column < width):
        raise ValueError(
            f"position {position} lies outside the feature map of {height} x {width} "
            "(rows x columns)."
        )
    scale = _normalizer(image.embedding, partner.embedding, metric)
    return partner.values @ (image.values[row, column] / np.float32(scale))


def similarity_of(query: Partner, gallery: Partner, metric: Metric = "cosine") -> float:
    """Compute the similarity of two images."""
    first, second = _embedding(query), _embedding(gallery)
    return float(first @ second / _normalizer(first, second, metric))


# --------------------------------------------------------------------------------------
# Fewer bytes
# --------------------------------------------------------------------------------------


def leading_directions(embeddings: Floats, count: int) -> Floats:
    """Compute the leading directions of embeddings, for a projection.

    Parameters
    ----------
    embeddings : ndarray of float32
        Shape (N, D); rows of zeros are left out.
    count : int
        Number of directions.

    Returns
    -------
    ndarray of float32
        Orthonormal, shape (K, D) with K at most ``count``: the directions that keep
        most of the unit vectors of the embeddings, in terms of squares.
    """
    size = embeddings.shape[1]
    moments = np.zeros((size, size))
    for start in range(0, len(embeddings), 8192):
        part = _double(embeddings[start : start + 8192])
        lengths = np.linalg.norm(part, axis=1, keepdims=True)
        part = part / np.where(lengths > 0, lengths, 1)
        moments += part.T @ part
    vectors = np.linalg.eigh(moments)[1].T[::-1][:count]
    # The sign of an eigenvector is arbitrary: its largest number is positive.
    largest = np.abs(vectors).argmax(axis=1)
    signs = np.sign(vectors[np.arange(len(vectors)), largest])
    return (vectors * signs[:, None]).astype(np.float32)


def pack_contributions(values: Floats, dtype: str) -> tuple[NDArray[Any], Floats]:
    """Convert contributions to a smaller type, with one scale per position.

    Parameters
    ----------
    values : ndarray of float32
        Shape (..., K).
    dtype : {"int8", "float16"}
        Type.

    Returns
    -------
    values : ndarray of int8 or float16
        Shape (..., K).
    scale : ndarray of float32
        Shape (...).
    """
    largest = np.abs(values).max(axis=-1, initial=0.0)
    steps = 127 if dtype == "int8" else 1
    scale = np.maximum(largest / steps, np.finfo(np.float32).tiny).astype(np.float32)
    scaled = values / scale[..., None]
    return (np.rint(scaled) if dtype == "int8" else scaled).astype(dtype), scale


def unpack_contributions(values: NDArray[Any], scale: Floats) -> Floats:
    """Restore contributions from :func:`pack_contributions`."""
    return values.astype(np.float32) * scale[..., None]


# --------------------------------------------------------------------------------------
# Helpers
# --------------------------------------------------------------------------------------


def _explain(image: Contributions, vector: NDArray[np.float64]) -> ContributionMap:
    """Make the map of an image towards a vector."""
    projected = image.project(vector)
    return ContributionMap(
        image.values @ projected,
        float(_double(image.embedding) @ vector),
        float(_double(image.remainder) @ _double(projected)),
    )


def _embedding(partner: Partner) -> NDArray[np.float64]:
    """Return the embedding of an image, or the vector that is given instead."""
    if isinstance(partner, Contributions):
        return _double(partner.embedding)
    return _double(partner)


def _double(values: NDArray[Any]) -> NDArray[np.float64]:
    return np.asarray(values, dtype=np.float64)


def _normalizer(query: NDArray[Any], gallery: NDArray[Any], metric: Metric) -> float:
    """Compute ``Z``, as :func:`fiftyone_sfam.network.metric.normalizer` does."""
    squares = [float(_double(end) @ _double(end)) for end in (query, gallery)]
    if metric == "cosine":
        return float(np.sqrt(squares[0] * squares[1]))
    if metric == "euclidean":
        return sum(squares) / 2
    raise ValueError(f"unknown metric {metric!r}; use one of cosine, euclidean.")
