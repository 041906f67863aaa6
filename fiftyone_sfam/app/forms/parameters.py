"""Schemas of the operators' parameters.

The App keeps to the types and bounds of a form. A request that is made by hand does
not, so every operator reads its parameters through a schema.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal, get_args, get_origin

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field
from pydantic import ValidationError as SchemaError
from pydantic.fields import FieldInfo
from typing_extensions import Self

from fiftyone_sfam.data.text import shorten
from fiftyone_sfam.errors import DataError

MAX_TEXT = 10_000
"""Most characters of a text."""

MAX_LISTED = 50
"""Most entries of a list."""

MAX_SEED = 2**32 - 1
MAX_RANK = 10_000_000


def _without_nul(text: str) -> str:
    """Refuse a character that the database cannot store."""
    if "\0" in text:
        raise ValueError
    return text


def _as_int(value: Any) -> Any:
    """Convert whole numbers that a client sends as 3.0."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _as_rates(text: Any) -> tuple[float, ...]:
    """Read false accept rates, which a form asks for as a text."""
    parts = str(text)[:MAX_TEXT].split(",")
    if len(parts) > MAX_LISTED:
        raise DataError(
            f"{len(parts)} false accept rates are too many; give at most {MAX_LISTED}."
        )
    try:
        rates = tuple(float(part) for part in parts)
    except ValueError as error:
        raise DataError(
            f"the false accept rates {str(text)[:60]!r} are not all numbers; give "
            "numbers separated by commas, such as 0.1, 0.01."
        ) from error
    for rate in rates:
        if not 0 < rate <= 1:
            raise DataError(
                f"the false accept rate {rate} is out of range; give rates above 0, up "
                "to 1."
            )
    return rates


Text = Annotated[str, Field(max_length=MAX_TEXT), AfterValidator(_without_nul)]
Texts = Annotated[tuple[Text, ...], Field(strict=False, max_length=MAX_LISTED)]
Whole = Annotated[int, BeforeValidator(_as_int)]
Rates = Annotated[tuple[float, ...], BeforeValidator(_as_rates)]


def whole(default: int | None, least: int, most: int) -> Any:
    """Bound a field of type :data:`Whole`."""
    wanted = f"a whole number from {least} to {most}"
    return Field(default, ge=least, le=most, description=wanted)


class Parameters(BaseModel):
    """Parameters of an operator; a parameter that is None or empty is not given.

    Parameters that the schema does not name are ignored: FiftyOne adds its own.
    """

    model_config = ConfigDict(strict=True, extra="ignore", frozen=True)

    @classmethod
    def read(cls, params: Mapping[str, Any]) -> Self:
        """Read the parameters of an operation; refuse the first that does not fit."""
        values, problems = cls.read_form(params)
        for problem in problems.values():
            raise DataError(problem)
        return values

    @classmethod
    def read_form(cls, params: Mapping[str, Any]) -> tuple[Self, dict[str, str]]:
        """Read a form that is being filled in; return what is wrong with each field.

        Fields with a problem have their default.
        """
        given = {
            name: params[name]
            for name in cls.model_fields
            if params.get(name) is not None and params[name] != ""
        }
        try:
            return cls.model_validate(given), {}
        except SchemaError as error:
            problems: dict[str, str] = {}
            for detail in error.errors(include_url=False, include_input=False):
                name = str(detail["loc"][0])
                reason = detail.get("ctx", {}).get("error")
                if isinstance(reason, DataError):
                    problems[name] = str(reason)
                else:
                    wanted = _wanted(cls.model_fields[name])
                    problems[name] = f"{name} is {_shown(given[name])}; give {wanted}."
        fitting = {key: value for key, value in given.items() if key not in problems}
        return cls.model_validate(fitting), problems


class RunParameters(Parameters):
    """Parameters of an operator that works on a run."""

    key: Text | None = None


def _wanted(field: FieldInfo) -> str:
    """Describe the values that a field takes."""
    kind = field.annotation
    if field.description:
        return field.description
    if get_origin(kind) is Literal:
        return f"one of {', '.join(get_args(kind))}"
    if get_origin(kind) is tuple:
        return f"a list of at most {MAX_LISTED} texts"
    if kind is bool:
        return "true or false"
    return f"a text of at most {MAX_TEXT} characters"


def _shown(value: Any) -> str:
    return shorten(repr(value), 60)
