"""Settings: what a section of the configuration is made of, for core and for plugins.

    class TeapotSettings(Settings):
        short = "message"                       # `teapot: hello` stands for `teapot: {message: hello}`
        message: str = "short and stout"
        delay: Duration = 0.0                   # "500ms" in a file; a float in seconds here
        largest: Size = 65536                   # "64KiB" in a file; an int in bytes here

A file must give durations, sizes and shares with their units. Python code that builds a model may pass plain numbers.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

from annotated_types import Ge, Le
from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    ValidationInfo,
    WithJsonSchema,
    model_validator,
)

from lb_core import units

if TYPE_CHECKING:
    from pydantic import GetJsonSchemaHandler
    from pydantic.fields import FieldInfo
    from pydantic_core import CoreSchema

#: The validation context of values that come from a file, the environment or the DSL; `source` joins it, the path of
#: that file.
FROM_FILE: dict[str, Any] = {"file": True}


def _with_unit(parse: Callable[[object], float]) -> BeforeValidator:
    def validate(value: object, info: ValidationInfo) -> object:
        plain = isinstance(value, (int, float)) and not isinstance(value, bool)
        return value if plain and not info.context else parse(value)

    return BeforeValidator(validate)


def _not_bool(value: object) -> object:
    if isinstance(value, bool):
        raise ValueError(f"{units.show(value)} is not a number")
    return value


def _positive(value: float) -> float:
    if value <= 0:
        raise ValueError("this cannot be 0: write 500ms, 10s, 5m or 1h")
    return value


def _string(pattern: str, *examples: str) -> WithJsonSchema:
    return WithJsonSchema({"type": "string", "pattern": pattern, "examples": list(examples)})


@dataclass(frozen=True)
class Written:
    """Marks a field whose values a file writes in another form."""

    form: Callable[[Any], str]


def as_written(field: FieldInfo, value: object) -> object:
    """A field's value as a file writes it: `10s` for 10.0."""
    form = next((each.form for each in field.metadata if isinstance(each, Written)), None)
    return form(value) if form and value is not None else value


Duration = Annotated[
    float,
    _with_unit(units.parse_duration),
    _string(units.DURATION_PATTERN, "500ms", "10s", "5m", "1h"),
    Written(units.format_duration),
]
PositiveDuration = Annotated[Duration, AfterValidator(_positive)]
Size = Annotated[
    int,
    _with_unit(units.parse_size),
    Ge(0),
    Written(units.format_size),
    _string(units.SIZE_PATTERN, "512B", "64KiB", "10MB", "1GiB"),
]
Share = Annotated[
    float,
    _with_unit(units.parse_share),
    Ge(0),
    Le(1),
    Written(units.format_share),
    WithJsonSchema(
        {
            "anyOf": [
                {"type": "string", "pattern": "^[0-9]+(\\.[0-9]+)? ?%$", "examples": ["20%"]},
                {"type": "number", "minimum": 0, "maximum": 1},
            ]
        }
    ),
]
Whole = Annotated[int, BeforeValidator(_not_bool)]
Port = Annotated[
    int, BeforeValidator(units.parse_port), WithJsonSchema({"type": "integer", "minimum": 1, "maximum": 65535})
]
Mode = Annotated[
    int,
    BeforeValidator(units.parse_mode),
    Written(units.format_mode),
    WithJsonSchema({"type": "string", "pattern": "^0?[0-7]{3}$", "examples": ["0660"]}),
]
Peer = Annotated[
    units.Peer,
    BeforeValidator(units.parse_peer),
    WithJsonSchema({"type": "string", "examples": ["10.0.0.0/8", "unix"]}),
]
Network = Annotated[
    units.Network, BeforeValidator(units.parse_network), WithJsonSchema({"type": "string", "examples": ["10.0.0.0/8"]})
]


class Settings(BaseModel):
    """The base of every section: frozen, and an unknown key is an error.

    `short` names the field that a bare value stands for; without it only a mapping is accepted. `true` stands for a
    section with nothing but defaults.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    short: ClassVar[str] = ""

    @classmethod
    def expand(cls, value: object) -> object:
        """Turn a short form into the mapping it stands for."""
        if value is True:
            return {}
        if cls.short and not isinstance(value, (Mapping, BaseModel)):
            return {cls.short: value}
        return value

    @model_validator(mode="before")
    @classmethod
    def _expand(cls, value: object) -> object:
        return cls.expand(value)

    @classmethod
    def __get_pydantic_json_schema__(cls, core: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        outer = handler(core)
        schema = handler.resolve_ref_schema(outer)
        fields = {field.alias or name: field for name, field in cls.model_fields.items()}
        for name, part in schema["properties"].items():
            part.pop("title", None)
            default = as_written(fields[name], part.pop("default", None))
            if isinstance(default, (str, int, float)) and default != "":
                part["default"] = default
        cls.describe(schema)
        field = schema["properties"].get(cls.short)
        if field:
            mapping = {key: schema.pop(key) for key in list(schema) if key not in ("title", "description")}
            short = {key: part for key, part in field.items() if key not in ("default", "description")}
            schema["anyOf"] = [short, mapping]
        return outer

    @classmethod
    def describe(cls, schema: dict[str, Any]) -> None:
        """Correct the JSON schema of the mapping, where a file may hold something else than the fields say."""
