"""`lb edit`: look at what is laid over the file of every node, change it, take a change back."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from lb_core import LbError
from lb_redis.edition import EditRefused

if TYPE_CHECKING:
    from lb_core import LoadBalancer
    from lb_redis.edition import Patch, Version
    from lb_redis.edits import Edits

USAGE = "lb edit show | apply PATCH [VERSION] | history | undo [VERSION]"
LONGEST_LINE = 100


async def edit(balancer: LoadBalancer, what: str, *arguments: str) -> str:
    """What `lb edit` answers. Raises LbError."""
    edits: Edits | None = getattr(balancer.sharing.cluster, "edits", None)
    if edits is None:
        raise LbError("there is no cluster to edit: the configuration has no section `cluster`")
    who = f"lb edit on {balancer.node.name}"
    match what, arguments:
        case "show", ():
            return _shown(edits)
        case "history", ():
            return "\n".join(_line(each) for each in edits.history()) or "nothing was edited yet"
        case "apply", (patch,):
            return _done(await edits.write(parsed(patch), None, who))
        case "apply", (patch, version):
            return _done(await edits.write(parsed(patch), _number(version), who))
        case "undo", ():
            return _done(await edits.undo(None, who))
        case "undo", (version,):
            return _done(await edits.undo(_number(version), who))
    raise LbError(f"write {USAGE}")


def parsed(text: str) -> Patch:
    """The patch in a text of YAML or JSON; raises EditRefused for another."""
    import yaml

    loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    try:
        found = yaml.load(text, loader)
    except yaml.YAMLError as error:
        raise EditRefused(f"this is neither YAML nor JSON: {' '.join(str(error).split())}") from None
    except RecursionError:
        raise EditRefused("this is nested too deeply") from None
    if not isinstance(found, dict):
        raise EditRefused('an edit is a mapping like {"routes": {"example.com": {"queue": 200}}}')
    return found


def _shown(edits: Edits) -> str:
    import yaml

    present = edits.edition.present
    if not present.number:
        return "nothing was edited yet: every node goes by its file"
    lines = [f"# {_line(present, change=False)}"]
    if edits.applied != present.number:
        lines.append(f"# this node could not apply it and goes on with version {edits.applied}")
    for number, patch in enumerate(present.patches, 1):
        lines.append(f"# patch {number} of {len(present.patches)}" if len(present.patches) > 1 else "")
        lines.append(yaml.safe_dump(patch, sort_keys=False, allow_unicode=True).rstrip())
    return "\n".join(line for line in lines if line) if present.patches else f"{lines[0]}\n# no edits are in force"


def _line(version: Version, *, change: bool = True) -> str:
    when = datetime.fromtimestamp(version.when, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
    line = f"version {version.number}, {when}, {version.who or 'nobody'}"
    if change:
        what = "undo" if version.change is None else json.dumps(version.change, ensure_ascii=False)
        line += f": {what if len(what) <= LONGEST_LINE else what[:LONGEST_LINE] + '…'}"
    return line


def _number(text: str) -> int:
    if not text.isdecimal():
        raise LbError(f'"{text}" is not a version: write its number, as `lb edit history` shows it')
    return int(text)


def _done(version: int) -> str:
    return f"version {version} is in force here, and on its way to the other nodes"
