"""Unknown keys: what is not there, and what to do about it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lb_core import known
from lb_core.choices import Installed, lacking

if TYPE_CHECKING:
    from collections.abc import Iterable

    from lb_core.documents import KeyPath
    from lb_core.problems import Problems


class Keys:
    """Notes the keys that mean nothing, or that belong to a package that is not in use."""

    def __init__(self, problems: Problems, plugins: Installed) -> None:
        self._problems = problems
        self._plugins = plugins

    def check(self, kind: known.Kind, path: KeyPath, value: object, keys: Iterable[str]) -> bool:
        """Look through a mapping of core's own (anything else is left to its model); true when nothing is noted."""
        keys = tuple(keys)
        unknown = {key: inner for key, inner in value.items() if key not in keys} if isinstance(value, dict) else {}
        for key, inner in unknown.items():
            self._note(kind, (*path, key), keys, inner)
        return not unknown

    def check_route(self, path: KeyPath, value: dict[str, object], keys: Iterable[str]) -> bool:
        """Look through a mapping that may also hold features."""
        return self.check("features", path, value, (*keys, *self._plugins.features))

    def _note(self, kind: known.Kind, path: KeyPath, keys: tuple[str, ...], value: object) -> None:
        key = str(path[-1])
        package = known.package_of(kind, key)
        if package and kind == "features" and value is False:
            return  # what is not installed is off already
        if package:
            self._problems.add(path, f'"{key}" is in {package}', lacking(package, self._plugins))
        elif kind != "features":
            self._problems.add(path, f'unknown key "{key}"', known.suggestion(key, keys))
        else:
            near = known.nearest(key, (*keys, *known.names_of("features")))
            hint = f"did you mean {near}?" if near else "`lb plugins` lists the features that are installed"
            if not near and isinstance(value, dict) and self._unquoted(path):
                hint = f'a host is quoted in TOML, because of its dots: [{path[0]}."{path[1]}.{key}"]'
            self._problems.add(path, f'unknown key "{key}"', hint)

    def _unquoted(self, path: KeyPath) -> bool:
        """Whether a key may be the second half of a host that TOML took apart."""
        return len(path) == 3 and path[0] == "routes" and self._problems.document.source.endswith(".toml")
