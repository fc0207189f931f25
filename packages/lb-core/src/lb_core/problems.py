"""Everything wrong with one document: collected, placed, and worded for the person who wrote it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, TypeVar, get_args

from pydantic import BaseModel, ValidationError

from lb_core.errors import ConfigError, Problem
from lb_core.known import nearest, suggestion
from lb_core.section import Section
from lb_core.settings import FROM_FILE
from lb_core.units import show

if TYPE_CHECKING:
    from pydantic_core import ErrorDetails

    from lb_core.documents import Document, KeyPath

Model = TypeVar("Model", bound=BaseModel)

_TYPES = {
    "int_type": "is not a whole number",
    "int_parsing": "is not a whole number",
    "int_parsing_size": "is too large",
    "int_from_float": "is not a whole number",
    "float_type": "is not a number",
    "float_parsing": "is not a number",
    "bool_type": "is not true or false",
    "bool_parsing": "is not true or false",
    "string_type": "is not text",
    "tuple_type": "is not a list",
    "list_type": "is not a list",
    "dict_type": "is not a mapping",
    "model_type": "is not a mapping",
    "model_attributes_type": "is not a mapping",
}


class Problems:
    """The problems of a document, each once, in the order of its lines."""

    def __init__(self, document: Document) -> None:
        self.document = document
        self._found: dict[Problem, None] = dict.fromkeys(document.problems)

    def add(self, path: KeyPath, message: str, hint: str = "") -> None:
        """Note one problem at a path."""
        self._found[self.document.problem(path, message, hint)] = None

    def raise_any(self) -> None:
        """ConfigError with everything found, if anything was."""
        if self._found:
            order = {problem: number for number, problem in enumerate(self._found)}
            raise ConfigError(sorted(self._found, key=lambda each: (each.file, each.line, order[each])))

    def validate(self, model: type[Model], value: object, *paths: KeyPath) -> Model | None:
        """`value` as a `model`, or None with its problems noted.

        `paths` are the places it may have been inherited from, the nearest first.
        """
        try:
            return model.model_validate(value, context={**FROM_FILE, "source": self.document.source})
        except ValidationError as error:
            for details in error.errors(include_url=False):
                if not _follows(details):
                    self._note(model, details, value, paths)
        except Exception as error:
            self.add(paths[0], f"{model.__name__} failed: {type(error).__name__}: {error}")
        return None

    def _note(self, model: type[BaseModel], details: ErrorDetails, value: object, paths: tuple[KeyPath, ...]) -> None:
        whole = isinstance(value, (Mapping, list))
        loc = tuple(part for part in details["loc"] if part != "[key]") if whole else ()
        if loc and loc[0] == getattr(model, "short", ""):
            if isinstance(value, list) or self._is_list(paths):
                loc = loc[1:]  # a short form that is a list: `split[1].weight`
            elif loc[1:2] == (0,) and isinstance(value, Mapping) and loc[0] not in value:
                loc = loc[2:]  # one mapping stands for a list of one: `rate_limit.window`
        message, hint = _worded(model, details)
        self.add(self._origin(paths, loc), message, hint)

    def _origin(self, paths: tuple[KeyPath, ...], loc: KeyPath) -> KeyPath:
        """Where the value at `loc` was written: in the nearest place that holds it, or holds most of the way to it."""
        for end in range(len(loc), -1, -1):
            for path in paths:
                if self.document.has(path + loc[:end]):
                    return path + (loc[:end] if self._is_short(path + loc[:end], loc[end:]) else loc)
        return paths[0] + loc

    def _is_list(self, paths: tuple[KeyPath, ...]) -> bool:
        """Whether the nearest place that holds the section holds a list."""
        return isinstance(next((v for path in paths if (v := self.document.value(path)) is not None), None), list)

    def _is_short(self, path: KeyPath, below: KeyPath) -> bool:
        """Whether the value at `path` was written in a short form, which has none of the keys `below`."""
        value = self.document.value(path)
        return bool(below) and not isinstance(value, list if isinstance(below[0], int) else dict)


def _follows(details: ErrorDetails) -> bool:
    """Whether it only says that a list is too short without those of its items that are wrong themselves."""
    value = details["input"]
    least: int = details.get("ctx", {}).get("min_length", 0)
    return details["type"] == "too_short" and isinstance(value, (list, tuple)) and len(value) >= least


def _worded(model: type[BaseModel], details: ErrorDetails) -> tuple[str, str]:
    kind, value, loc = details["type"], details["input"], details["loc"]
    context: dict[str, Any] = details.get("ctx", {})
    match kind:
        case "extra_forbidden":
            return f'unknown key "{loc[-1]}"', suggestion(str(loc[-1]), _keys(_model_at(model, loc[:-1])))
        case "missing":
            return f'the key "{loc[-1]}" is missing', ""
        case "value_error" | "assertion_error":
            return str(context.get("error", details["msg"])), ""
        case "literal_error":
            options = context["expected"].replace("'", "").replace(" or ", ", ").split(", ")
            near = nearest(value, options) if isinstance(value, str) else ""
            return f"{show(value)} is not one of {', '.join(options)}", f"did you mean {near}?" if near else ""
        case "model_type" | "model_attributes_type" | "dict_type":
            keys = _keys(_model_at(model, loc))
            return f"{show(value)} is not a mapping", f"known keys are {', '.join(keys)}" if keys else ""
        case "string_type" if isinstance(value, (int, float)):
            return f"{show(value)} is not text", f'put it in quotes: "{show(value)}"'
        case "string_pattern_mismatch":
            return f"{show(value)} is not of a form that may stand here", f"the pattern is {context['pattern']}"
        case "too_short" if not value:
            return "this list is empty", "write one at least, or leave the key out"
        case _ if kind in _TYPES:
            return f"{show(value)} {_TYPES[kind]}", ""
    return details["msg"].replace("Input should", f"{show(value)} should").replace(
        "Value should", f"{show(value)} should"
    ), ""


def _keys(model: type[BaseModel] | None) -> list[str]:
    if model is None:
        return []
    return model.keys() if issubclass(model, Section) else list(model.model_fields)


def _model_at(model: type[BaseModel] | None, loc: tuple[int | str, ...]) -> type[BaseModel] | None:
    for part in loc:
        if isinstance(part, int):  # a place in a list of such models
            continue
        field = model.model_fields.get(part) if model else None
        model = _model_in(field.annotation) if field else None
    return model


def _model_in(annotation: Any) -> type[BaseModel] | None:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    return next((found for part in get_args(annotation) if (found := _model_in(part))), None)
