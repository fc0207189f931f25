"""What is laid over a configuration after it has been read: JSON merge patches (RFC 7396), one after the other.

    {"routes": {"example.com": {"queue": 200}}}      sets one key and leaves the others
    {"routes": {"old.example.com": None}}            removes a route

A short form that core knows (`[host:port]` for a route, a path for a health check) is taken for its long one where a
patch sets a key in it. The files stay as they are; a reload reads them again and lays the same over them.
"""

from __future__ import annotations

from copy import deepcopy
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from lb_core.documents import Document, KeyPath, Place
from lb_core.environment import long_form
from lb_core.errors import ConfigError
from lb_core.yaml_tree import read

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping


@dataclass(frozen=True, slots=True)
class Overlay:
    """Patches, in their order; `source` names them in messages: `edit 7`."""

    patches: tuple[Mapping[str, Any], ...] = ()
    source: str = "edit"

    def with_patches(self, patches: Iterable[Mapping[str, Any]], source: str) -> Overlay:
        """Another overlay."""
        return Overlay(tuple(patches), source)

    def over(self, document: Document) -> Document:
        """A document with the patches laid over it; the one that is given stays as it is."""
        if not self.patches:
            return document
        tree: Any = document.tree
        places, links = dict(document.places), dict(document.links)
        for patch in self.patches:
            tree = _opened(tree, patch, ())
            written = list(_written(patch, tree, ()))
            tree = merged(tree, patch)
            for path in written:
                for known in (places, links):
                    for below in [each for each in known if each[: len(path)] == path]:
                        del known[below]
                places[path] = Place(self.source, 0)
        return replace(document, tree=tree, places=places, links=links, problems=list(document.problems))


def parse_patch(text: str) -> dict[str, Any]:
    """The patch in a text of YAML or JSON, read as a file is; raises ConfigError with everything that is wrong."""
    document = read(text, "the patch")
    if document.problems:
        raise ConfigError(document.problems)
    return document.tree


def merged(target: Any, patch: Any) -> Any:
    """What a merge patch makes of a value (RFC 7396 section 2); neither is changed."""
    if not isinstance(patch, dict):
        return deepcopy(patch)
    result = dict(target) if isinstance(target, dict) else {}
    for key, value in patch.items():
        if value is None:
            result.pop(key, None)
        else:
            result[key] = merged(result.get(key), value)
    return result


def _opened(target: Any, patch: Mapping[str, Any], path: KeyPath) -> Any:
    """The tree with the long forms of what the patch changes a key of: `[host:port]` becomes `{backends: …}`."""
    result = dict(target)
    for key, value in patch.items():
        there, here = target.get(key), (*path, key)
        if not isinstance(value, dict) or not value or there is None:
            continue
        if not isinstance(there, dict):
            there = long_form(here, there)
        if there is not None:
            result[key] = _opened(there, value, here)
    return result


def _written(patch: Mapping[str, Any], target: Any, path: KeyPath) -> Iterator[KeyPath]:
    """The paths whose values a patch replaces or removes, and those of mappings that it makes."""
    for key, value in patch.items():
        there = target.get(key) if isinstance(target, dict) else None
        if not isinstance(value, dict) or not isinstance(there, dict):
            yield (*path, key)
        if isinstance(value, dict):
            yield from _written(value, there, (*path, key))
