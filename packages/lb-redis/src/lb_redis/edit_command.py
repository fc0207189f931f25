"""`lb edit`: look at what is laid over the file of every node, change it, take a change back."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from lb_core import ConfigError, LbError
from lb_redis.edition import EditRefused

if TYPE_CHECKING:
    from collections.abc import Sequence

    from lb_core import LoadBalancer
    from lb_redis.edition import Patch, Version
    from lb_redis.edits import Edits

USAGE = "lb edit show | apply PATCH [VERSION] | history | undo [VERSION]"
LIKE = 'an edit is a mapping like {"routes": {"example.com": {"queue": 200}}}'
LONGEST_LINE = 100


async def edit(balancer: LoadBalancer, what: str, *arguments: str) -> str:
    """What `lb edit` answers. Raises LbError."""
    edits: Edits | None = getattr(balancer.sharing.cluster, "edits", None)
    if edits is None:
        raise LbError("there is no cluster to edit: the configuration has no section `cluster`")
    who = f"lb edit on {balancer.node.name}"
    try:
        return await _answer(edits, who, what, arguments)
    except ConfigError as error:  # it may name a line of the file, in which nothing is wrong without the edit
        raise LbError(f"{error}\nnothing was changed: this would be wrong with the edit") from None


async def _answer(edits: Edits, who: str, what: str, arguments: tuple[str, ...]) -> str:
    match what, arguments:
        case "show", ():
            return _shown(edits)
        case "history", ():
            return "\n".join(_line(each, edits.history()) for each in edits.history()) or "nothing was edited yet"
        case "apply", (patch,):
            return _done(await edits.write(parsed(patch), None, who))
        case "apply", (patch, version):
            return _done(await edits.write(parsed(patch), _number(version), who))
        case "undo", ():
            return _undone(await edits.undo(None, who), edits)
        case "undo", (version,):
            return _undone(await edits.undo(_number(version), who), edits)
    raise LbError(f"write {USAGE}")


def parsed(text: str) -> Patch:
    """The patch in a text of YAML or JSON, read as a file is; raises EditRefused for another."""
    from lb_core import parse_patch

    if not text.strip():
        raise EditRefused(LIKE)
    try:
        return parse_patch(text)
    except ConfigError as error:
        raise EditRefused(f"{error}\n{LIKE}") from None


def _shown(edits: Edits) -> str:
    import yaml

    present = edits.edition.present
    if not present.number:
        return "nothing was edited yet: every node goes by its file"
    lines = [f"# {_line(present)}"]
    if edits.applied != present.number:
        lines.append(f"# this node could not apply it and goes on with version {edits.applied}")
    for number, patch in enumerate(present.patches, 1):
        lines.append(f"# patch {number} of {len(present.patches)}" if len(present.patches) > 1 else "")
        plain = json.loads(json.dumps(patch))  # without the aliases that it was written with
        lines.append(yaml.safe_dump(plain, sort_keys=False, allow_unicode=True).rstrip())
    return "\n".join(line for line in lines if line) if present.patches else f"{lines[0]}\n# no edits are in force"


def _line(version: Version, history: Sequence[Version] | None = None) -> str:
    """A version in one line; with the history, what it has changed."""
    when = datetime.fromtimestamp(version.when, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
    line = f"version {version.number}, {when}, {version.who or 'nobody'}"
    if history is not None:
        what = f"undo, {_like(version, history)}".removesuffix(", ")
        if version.change is not None:
            what = json.dumps(version.change, ensure_ascii=False)
        line += f": {what if len(what) <= LONGEST_LINE else what[:LONGEST_LINE] + '…'}"
    return line


def _like(version: Version, history: Sequence[Version]) -> str:
    """Which earlier version an undo has brought back."""
    if not version.patches:
        return "the files alone"
    earlier = [each for each in history if each.number < version.number and each.patches == version.patches]
    return f"as version {earlier[-1].number} was" if earlier else ""


def _number(text: str) -> int:
    if not text.isdecimal():
        raise LbError(f'"{text}" is not a version: write its number, as `lb edit history` shows it')
    return int(text)


def _done(version: int, like: str = "") -> str:
    which = f"{version} ({like})" if like else str(version)
    return f"version {which} is in force here, and on its way to the other nodes"


def _undone(version: int, edits: Edits) -> str:
    return _done(version, _like(edits.edition.present, edits.history()))
