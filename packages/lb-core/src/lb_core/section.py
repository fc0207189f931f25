"""What the sections of core's own configuration have in common.

Durations are float seconds, sizes int bytes, both 0 for "no limit" where that is possible. The descriptions of the
fields become docs/configuration.md and the JSON schema.
"""

import re
from typing import Annotated, Any, ClassVar

from pydantic import BeforeValidator, WithJsonSchema

from lb_core import units
from lb_core.settings import Network, Peer, Settings

TOKEN = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+").fullmatch
"""A method or the name of a header field (RFC 9110 section 5.6.2)."""

_NAME = re.compile(r"[^\s/\"'{}]{1,128}").fullmatch


def words(value: object) -> object:
    """One word, or a list of them."""
    return [value] if isinstance(value, str) else value


def name_fault(name: str, what: str) -> str:
    """What is wrong with a name, or an empty text."""
    if _NAME(name):
        return ""
    return f"{units.show(name)} is not a name for a {what}: use letters, digits, '-', '_', '.' and ':'"


class Section(Settings):
    """A section of core's own."""

    computed: ClassVar[frozenset[str]] = frozenset()
    also: ClassVar[frozenset[str]] = frozenset()

    @classmethod
    def keys(cls) -> list[str]:
        """Every key a file may hold in this section."""
        return [name for name in cls.model_fields if name not in cls.computed] + sorted(cls.also)

    @classmethod
    def describe(cls, schema: dict[str, Any]) -> None:
        fields: dict[str, Any] = schema["properties"]
        for name in cls.computed:
            fields.pop(name, None)
        if cls.also:
            fields |= {name: {"type": "string"} for name in sorted(cls.also)}
            schema["anyOf"] = [{"required": [name]} for name in sorted(cls.also)]
        required = [name for name in schema.pop("required", ()) if name not in cls.computed]
        if required:
            schema["required"] = required


_TEXTS = WithJsonSchema({"anyOf": [{"type": "string"}, {"type": "array", "items": {"type": "string"}}]})
Networks = Annotated[tuple[Network, ...], BeforeValidator(words), _TEXTS]
Peers = Annotated[tuple[Peer, ...], BeforeValidator(words), _TEXTS]
Words = Annotated[tuple[str, ...], BeforeValidator(words), _TEXTS]
