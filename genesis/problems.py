"""Turning pydantic's errors into sentences: where, what, and the name that was probably meant."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches
from typing import Any

from pydantic import BaseModel, ValidationError

from genesis.errors import Problem

# Problems named in one report; a document with more needs another look in any case.
REPORTED_PROBLEMS_COUNT = 20

_SHOWN_VALUE_CHARACTERS = 60


def suggestion(name: str, known: Iterable[str]) -> str:
    """`did you mean "x"?` for an unknown name, or the known names where nothing is close."""
    names = list(known)
    close = get_close_matches(name, names, n=1, cutoff=0.6)
    if close:
        return f'did you mean "{close[0]}"?'
    return f"known here: {', '.join(names)}" if len(names) <= 12 else ""


def problems_of(error: ValidationError, model: type[BaseModel]) -> tuple[Problem, ...]:
    """Every problem of a failed validation against `model`, at most REPORTED_PROBLEMS_COUNT."""
    details = error.errors(include_url=False)[:REPORTED_PROBLEMS_COUNT]
    return tuple(_problem(detail, model) for detail in details)


def _problem(detail: Any, model: type[BaseModel]) -> Problem:
    location: tuple[int | str, ...] = detail["loc"]
    where = ".".join(map(str, location))
    kind: str = detail["type"]
    if kind == "extra_forbidden":
        known = _fields_at(model, location[:-1])
        return Problem(where, "unknown", "unknown name", suggestion(str(location[-1]), known))
    if kind == "missing":
        return Problem(where, "missing", "is missing")
    if kind == "literal_error":
        expected = detail["ctx"]["expected"]
        return Problem(where, kind, f"must be {expected}, not {_shown(detail['input'])}")
    message: str = detail["msg"]
    message = message.removeprefix("Value error, ")
    if kind == "value_error":
        return Problem(where, kind, message)
    message = message.replace("input should be", "must be").replace("Input should be", "must be")
    return Problem(where, kind, f"{message[0].lower()}{message[1:]}, not {_shown(detail['input'])}")


def _shown(value: object) -> str:
    text = repr(value)
    if len(text) <= _SHOWN_VALUE_CHARACTERS:
        return text
    return text[:_SHOWN_VALUE_CHARACTERS] + "…"


def _fields_at(model: type[BaseModel], location: tuple[int | str, ...]) -> list[str]:
    """The names that the model knows at a place in the document."""
    here: type[BaseModel] | None = model
    for part in location:
        if here is None:
            return []
        if isinstance(part, str):
            field = here.model_fields.get(part)
            here = _model_in(field.annotation) if field is not None else None
    return list(here.model_fields) if here is not None else []


def _model_in(annotation: Any) -> type[BaseModel] | None:
    """The model that an annotation such as `tuple[Entry, ...]` is about."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    for argument in getattr(annotation, "__args__", ()):
        found = _model_in(argument)
        if found is not None:
            return found
    return None
