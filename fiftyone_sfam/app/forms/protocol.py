"""The rules of a retrieval in the forms of the App."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from fiftyone.operators import types

from fiftyone_sfam.app.forms import choices
from fiftyone_sfam.app.forms.parameters import (
    MAX_RANK,
    MAX_SEED,
    Parameters,
    Text,
    Texts,
    Whole,
    whole,
)
from fiftyone_sfam.data.protocol import Protocol, Rule, Within, parse_rule

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import fiftyone as fo

    from fiftyone_sfam.app.forms.making import MakingParameters

MAX_DRAWS = 10_000


class ProtocolParameters(Parameters):
    """The rules of a retrieval, and the detections that are compared."""

    patches_field: Text | None = None
    identity_field: Text | None = None
    camera_field: Text | None = None
    split_field: Text | None = None
    query_value: Text = "query"
    gallery_value: Text = "gallery"
    exclude_same_camera: bool = True
    exclude_duplicates: bool = False
    junk: Text = ""  # identities, separated by commas
    distractors: Text = ""  # identities, separated by commas
    exclude: Text = ""  # rules, separated by semicolons, of fields between commas
    query_field: Text | None = None
    gallery_field: Text | None = None
    gallery_shots: Whole | None = whole(None, 1, MAX_RANK)
    gallery_per: Texts = ()
    draws: Whole = whole(10, 1, MAX_DRAWS)
    draw_seed: Whole = whole(0, 0, MAX_SEED)

    def protocol(self) -> Protocol:
        """Return the rules of the retrieval.

        What the form does not ask any more, because of a later choice, does not count.
        """
        split, drawn = self.split_field, self.drawn()
        return replace(
            self.identities(),
            camera_field=self.camera_field,
            exclude_same_camera=self.exclude_same_camera,
            split_field=self.split_field,
            query_value=self.query_value,
            gallery_value=self.gallery_value,
            exclude_duplicates=self.exclude_duplicates,
            exclude=self.rules(),
            query_field=self.query_field if split is None else None,
            gallery_field=self.gallery_field if split is None else None,
            gallery_shots=drawn.gallery_shots,
            gallery_per=drawn.gallery_per,
            draws=self.draws,
            seed=self.draw_seed,
        )

    def identities(self) -> Protocol:
        """Return the rules about identities alone."""
        return Protocol(
            self.identity_field,
            junk=_split(self.junk),
            distractors=_split(self.distractors),
        )

    def drawn(self) -> Protocol:
        """Return the rules of the random galleries alone."""
        if self.identity_field is None or self.gallery_shots is None:
            return Protocol()
        return Protocol(
            self.identity_field,
            gallery_shots=self.gallery_shots,
            gallery_per=self.gallery_per,
        )

    def rules(self) -> tuple[Rule, ...]:
        """Return the rules of several fields."""
        given = tuple(map(parse_rule, _split(self.exclude, ";")))
        return Protocol(exclude=given).exclude


def _split(text: str, at: str = ",") -> tuple[str, ...]:
    """Split a text into its parts."""
    return tuple(part.strip() for part in text.split(at) if part.strip())


def add_protocol(
    dataset: fo.Dataset, params: ProtocolParameters, inputs: types.Object
) -> None:
    """Add the fields that labels, cameras, splits and detections come from."""
    camera = "Needed to leave out images of the same identity and camera"
    names = add_labels(dataset, params, inputs, camera)
    choices.add_choice(
        inputs,
        "split_field",
        ["tags", *names],
        label="Query / gallery field",
        description="Without it, every image is both",
    )
    if params.split_field:
        inputs.str("query_value", label="Value of queries", default="query")
        inputs.str("gallery_value", label="Value of the gallery", default="gallery")
    else:
        _add_roles(dataset, params, inputs)
    if params.camera_field:
        inputs.bool(
            "exclude_same_camera",
            label="Leave out the query's identity on the query's camera",
            default=True,
        )
    # What was typed stays visible when the identity field is cleared again.
    if params.identity_field or params.junk or params.distractors:
        junk = inputs.str(
            "junk",
            label="Junk identities",
            description="Left out everywhere; separate by commas",
        )
        distractors = inputs.str(
            "distractors",
            label="Distractor identities",
            description="In the gallery, but match nobody; separate by commas",
        )
        problem = choices.problem_of(params.identities)
        choices.mark(distractors if params.distractors else junk, problem)
    _add_rules(params, _names(dataset, params, choices.rule_fields), inputs)
    inputs.bool(
        "exclude_duplicates",
        label="Leave out exact duplicates of the query",
        default=False,
    )


def add_labels(
    dataset: fo.Dataset,
    params: ProtocolParameters | MakingParameters,
    inputs: types.Object,
    camera: str,
) -> list[str]:
    """Add the fields of detections, identities and cameras; return those of labels."""
    detections = choices.detection_fields(dataset)
    if detections:
        choices.add_choice(
            inputs,
            "patches_field",
            detections,
            label="Detections",
            description="Compare detections instead of whole images",
        )
    names = _names(dataset, params, choices.label_fields)
    choices.add_choice(
        inputs,
        "identity_field",
        names,
        label="Identity field",
        description="Who is shown; needed to separate true from false matches",
    )
    choices.add_choice(
        inputs, "camera_field", names, label="Camera field", description=camera
    )
    return names


def _names(
    dataset: fo.Dataset,
    params: ProtocolParameters | MakingParameters,
    list_fields: Callable[..., list[str]],
) -> list[str]:
    """List fields of the samples, after those of the detections that are compared."""
    names = list_fields(dataset)
    if params.patches_field in choices.detection_fields(dataset):
        prefix = choices.patches_prefix(dataset, params.patches_field)
        names = list(dict.fromkeys(list_fields(dataset, prefix) + names))
    return names


def _add_roles(
    dataset: fo.Dataset, params: ProtocolParameters, inputs: types.Object
) -> None:
    """Add boolean fields of queries and gallery, if the dataset has any."""
    flags = _names(dataset, params, choices.boolean_fields)
    if not flags:
        return
    for name, label in (("query", "Queries"), ("gallery", "Gallery")):
        choices.add_choice(
            inputs,
            f"{name}_field",
            flags,
            label=f"{label}: a boolean field",
            description="An image may be both; without a field, all images are",
        )


def _add_rules(
    params: ProtocolParameters, names: Sequence[str], inputs: types.Object
) -> None:
    """Add the rules of several fields, and the random galleries."""
    field = inputs.str(
        "exclude",
        label="Rules that leave out gallery images",
        description="Fields that all equal the query's, such as identity,clothes; a "
        "date is its day, date:12h half a day; separate rules by semicolons",
    )
    if params.exclude:
        problem = choices.problem_of(params.rules)
        choices.mark(field, problem or _unknown_field(params, names))
    if params.identity_field:
        inputs.int(
            "gallery_shots",
            label="Also evaluate with this many gallery images per identity",
            description="Drawn at random; leave it empty for the whole gallery only",
            min=1,
            max=MAX_RANK,
        )
    if params.identity_field and params.gallery_shots:
        choices.add_list(
            inputs,
            "gallery_per",
            names,
            params.gallery_per,
            label="Drawn for each value of",
            description="By default the identity; identity and camera draw images of "
            "each camera",
            problem="is not a field to draw by; choose from the list.",
        )
        per = inputs.properties["gallery_per"]
        if not per.invalid:
            choices.mark(per, choices.problem_of(params.drawn))
        inputs.int("draws", label="Draws", default=10, min=1, max=MAX_DRAWS)
        inputs.int("draw_seed", label="Seed", default=0, min=0, max=MAX_SEED)


def _unknown_field(params: ProtocolParameters, names: Sequence[str]) -> str | None:
    """Return what is wrong with the fields of the rules."""
    for rule in params.rules():
        for term in rule:
            name = term.field if isinstance(term, Within) else term
            if name not in names:
                return f"the rules name the field '{name}', which does not fit a rule."
    return None
