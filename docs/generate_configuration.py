"""Writes docs/configuration.md from the models of lb_core and the installed features; --check says if it is stale."""

from __future__ import annotations

import ast
import inspect
import sys
import textwrap
from importlib import import_module
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel
from pydantic_core import PydanticUndefined

from lb_core.environment import OLDER_NAMES
from lb_core.known import built_in
from lb_core.listener_sections import ClientLimits, ClientTimeouts, ListenerConfig, ProxyProtocolConfig
from lb_core.match_section import MatchConfig
from lb_core.plugins import BUILT_IN, Plugins
from lb_core.pool_sections import BackendConfig, HealthCheckConfig
from lb_core.route_sections import Retry, RouteOptions, Timeouts
from lb_core.section import Section
from lb_core.sections import AccessLogConfig, GlobalOptions, PluginsConfig
from lb_core.settings import Settings, as_written

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pydantic.fields import FieldInfo

FOLDER = Path(__file__).parent
PAGE = FOLDER / "configuration.md"
TEMPLATE = FOLDER / "configuration.template"

ADDRESS = "`host:port`, `http://host:port` or `unix:/path`; may also be written as `address`"

TABLES: dict[str, type[Settings]] = {
    "global": GlobalOptions,
    "access_log": AccessLogConfig,
    "plugins": PluginsConfig,
    "listener": ListenerConfig,
    "proxy_protocol": ProxyProtocolConfig,
    "listener_timeouts": ClientTimeouts,
    "listener_limits": ClientLimits,
    "backend": BackendConfig,
    "health_check": HealthCheckConfig,
    "match": MatchConfig,
    "route": RouteOptions,
    "timeouts": Timeouts,
    "retry": Retry,
}


def main(check: bool) -> int:
    """Write the page, or with `check` compare it; 1 where it is stale."""
    page = written()
    if not check:
        PAGE.write_text(page)
        return 0
    if PAGE.exists() and PAGE.read_text() == page:
        return 0
    print(f"{PAGE} is stale: run `make docs`", file=sys.stderr)
    return 1


def written() -> str:
    """The page: the template with a table of keys wherever it says `<!-- keys: NAME -->`."""
    page = TEMPLATE.read_text()
    for name, model in TABLES.items():
        page = _filled(page, f"keys: {name}", table(model))
    page = _filled(page, "built-in features", "\n".join(features()))
    page = _filled(page, "built-in strategies", ", ".join(strategies()))
    page = _filled(page, "older names", ", ".join(f"`{old}` ({new})" for old, new in OLDER_NAMES.items()))
    note = "<!-- Written by docs/generate_configuration.py from the models and configuration.template; edit those. -->"
    return page.replace("\n", f"\n\n{note}\n", 1)


def table(model: type[BaseModel]) -> str:
    """The keys of a section with default and meaning."""
    computed = model.computed if issubclass(model, Section) else frozenset()
    notes = _docstrings(model)
    rows = ["| key | default | meaning |", "|---|---|---|"]
    if issubclass(model, Section):
        rows += [f"| `{key}` | required | {ADDRESS} |" for key in sorted(model.also)[-1:]]
    for name, field in model.model_fields.items():
        if name not in computed:
            meaning = (field.description or notes.get(name, "")).replace("|", "\\|")
            rows.append(f"| `{field.alias or name}` | {_default(field)} | {meaning} |")
    return "\n".join(rows)


def features() -> Iterator[str]:
    """The features that lb-core brings."""
    for name, feature in built_in_plugins().features.items():
        yield f"#### {name}\n\n{inspect.getdoc(feature.settings)}\n\n{table(feature.settings)}\n"


def strategies() -> Iterator[str]:
    """The strategies that lb-core brings, with their aliases."""
    for strategy in {each.name: each for each in built_in_plugins().strategies.values()}.values():
        default = " (the default)" if strategy.name == built_in()["strategy"] else ""
        aliases = " or ".join(f"`{alias}`" for alias in strategy.aliases)
        yield f"`{strategy.name}`{default}" + (f", also {aliases}" if aliases else "")


def built_in_plugins() -> Plugins:
    """Core's own plugins, whatever else is installed."""
    plugins = Plugins()
    for module in BUILT_IN:
        plugins.add(import_module(module), module.rpartition(".")[2], "lb-core")
    return plugins


def _filled(page: str, name: str, text: str) -> str:
    mark = f"<!-- {name} -->"
    if mark not in page:
        raise LookupError(f"{TEMPLATE} has no {mark}")
    return page.replace(mark, text.strip())


def _default(field: FieldInfo) -> str:
    if field.is_required() or field.default is PydanticUndefined:
        return "required"
    return _value(as_written(field, field.default))


def _value(value: Any) -> str:
    match value:
        case BaseModel():
            return "below"
        case bool():
            return "`true`" if value else "`false`"
        case None | "" | () | {}:
            return ""
        case tuple() | list():
            return f"`[{', '.join(map(str, value))}]`"
    return f"`{value}`"


def _docstrings(model: type[BaseModel]) -> dict[str, str]:
    """The texts that stand under the fields of a model, for models that describe them so."""
    (body,) = ast.parse(textwrap.dedent(inspect.getsource(model))).body
    assert isinstance(body, ast.ClassDef)
    found: dict[str, str] = {}
    for field, after in pairwise(body.body):
        match field, after:
            case ast.AnnAssign(target=ast.Name(id=name)), ast.Expr(value=ast.Constant(value=str(text))):
                found[name] = " ".join(text.split())
    return found


if __name__ == "__main__":
    sys.exit(main("--check" in sys.argv[1:]))
