"""What the panel of pairs says: captions and the color bar, as small plain data."""

from __future__ import annotations

import numpy as np

from fiftyone_sfam.app.forms.choices import for_user
from fiftyone_sfam.app.pairs.layout import MARKS, OUTCOME_COLORS, Plain, as_text
from fiftyone_sfam.app.pairs.maps import ShownMaps
from fiftyone_sfam.app.pairs.pictures import Look, Picture
from fiftyone_sfam.app.pairs.view import STRIP, NeighborView, PairView, QueryView
from fiftyone_sfam.attribution.render import DIVERGING, SEQUENTIAL, color_table
from fiftyone_sfam.data.text import counted

_BAR_COLORS = 17
_NEGLIGIBLE = 5e-5


def query_caption(view: QueryView) -> str:
    """Say what the query is."""
    return lines(
        f"**Query** {_labels(view.identity, view.camera)}",
        problem_text(view.query),
        not_on_map(view.remainders[0]),
    )


def neighbor_caption(view: QueryView) -> str:
    """Say what the chosen neighbor is."""
    chosen = view.chosen
    return lines(
        f"**Rank {chosen.rank}** {_labels(chosen.identity, chosen.camera)} "
        f"{MARKS[chosen.outcome]} {chosen.outcome}",
        f"similarity {view.similarity:.4f}, distance {view.distance:.4f}",
        problem_text(view.neighbor),
        not_on_map(view.remainders[1]),
    )


def selected_captions(view: PairView) -> tuple[str, str]:
    """Say what two selected samples are."""
    return (
        lines("**First selected**", not_on_map(view.remainders[0])),
        lines(
            "**Second selected**",
            f"similarity {view.similarity:.4f}, distance {view.distance:.4f}",
            not_on_map(view.remainders[1]),
        ),
    )


def picture_text(picture: Picture, caption: str) -> Plain:
    """Describe a picture to the layout."""
    return {
        "caption": caption,
        "size": [picture.width, picture.height],
        "there": bool(picture.url),
    }


def color_bar(maps: ShownMaps, look: Look, scope: str) -> Plain:
    """Describe the colors: a gradient, its ticks and their unit."""
    name = look.colors or (DIVERGING if maps.signed else SEQUENTIAL)[0]
    table = color_table(name)
    chosen = np.linspace(0, 255, _BAR_COLORS).round().astype(int)
    colors = ", ".join("#{:02x}{:02x}{:02x}".format(*table[row]) for row in chosen)
    low = -1.0 if maps.signed else 0.0
    ticks = [float(part) * maps.limit for part in np.linspace(low, 1.0, 5)]
    return {
        "gradient": f"linear-gradient(to right, {colors})",
        "ticks": [f"{tick:.3g}" for tick in ticks],
        "unit": f"{maps.unit}; {scope}",
    }


def range_scope(view: QueryView) -> str:
    """Say which maps have the range of the color bar."""
    if view.everything:
        return "one range for all neighbors of this query"
    return f"one range, of the {STRIP} nearest neighbors and the nearest true match"


def strip_text(view: QueryView) -> Plain:
    """Describe the strip of neighbors."""
    near = [one for one in view.neighbors if not one.best_true]
    head = counted(view.count, "neighbor")
    if near and len(view.neighbors) < view.count:
        head = f"Neighbors {near[0].rank} to {near[-1].rank} of {view.count}"
    return {
        "head": head,
        "neighbors": [
            {
                **picture_text(one.thumbnail, _strip_caption(one)),
                "place": one.place,
                "chosen": one.pair == view.chosen.pair,
                "color": OUTCOME_COLORS[one.outcome],
            }
            for one in view.neighbors
        ],
    }


def missed_text(view: QueryView) -> Plain:
    """Describe the true match that was missed."""
    missed = view.missed
    if missed is None:
        raise ValueError("this view has no missed true match.")
    head = f"It has rank {missed.rank}, similarity {missed.similarity:.4f}"
    if view.chosen.best_true:
        head = f"This neighbor is the nearest one, at rank {missed.rank}"
    elif view.margin is not None:
        more = "more" if view.margin > 0 else "less"
        head += f", {abs(view.margin):.4f} {more} than the neighbor shown"
    return {
        "head": lines(
            f"**Why not the true match?** {head}.",
            "Above, on the query, red speaks for the true match and blue for the "
            "neighbor. Below, red is what sets the query and its true match apart."
            if missed.note is None
            else as_sentence(missed.note),
        ),
        "query": picture_text(missed.query, lines("Query", problem_text(missed.query))),
        "true": picture_text(
            missed.true,
            lines(
                f"True match, rank {missed.rank}: {as_text(missed.identity)}",
                problem_text(missed.true),
            ),
        ),
    }


def problem_text(picture: Picture) -> str | None:
    """Say why there is no picture, or no map; None where there are both."""
    return None if picture.problem is None else as_sentence(picture.problem)


def not_on_map(remainder: float | None) -> str | None:
    """Say how much of the similarity the evidence map does not carry."""
    if remainder is None or not abs(remainder) >= _NEGLIGIBLE:
        return None
    return f"{remainder:+.4f} of it is not on the evidence map"


def lines(*parts: str | None) -> str:
    """Join lines of Markdown."""
    return "  \n".join(part for part in parts if part)


def as_sentence(message: str) -> str:
    """Turn a message into Markdown; nothing in it is markup, nor a folder's name."""
    text = for_user(message)
    return as_text(text[:1].upper() + text[1:], most=None)


def _labels(identity: str | None, camera: str | None) -> str:
    """Return identity and camera."""
    named = as_text(identity)
    return named if camera is None else f"{named}, camera {as_text(camera)}"


def _strip_caption(one: NeighborView) -> str:
    """Return what stands below a neighbor of the strip."""
    mark = MARKS[one.outcome]
    head = f"**{one.rank}** {mark} {one.similarity:.3f}"
    true = f"*true match, rank {one.rank}*" if one.best_true else None
    return lines(
        head, as_text(one.identity), true, one.thumbnail.problem and "no image"
    )
