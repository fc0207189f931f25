"""The section `failover:` of a route."""

from __future__ import annotations

import re
from collections.abc import Iterable

from pydantic import field_validator

from lb_core import Duration, Settings, Use

_PATH = re.compile(r"/[!-~]*").fullmatch


class FailoverSettings(Settings):
    """Another route of this balancer that serves while no backend of this one can. Short form: its domain."""

    short = "backup_domain"

    backup_domain: str
    """The domain, or the name, of the route that serves instead."""
    health_check: str = ""
    """A path to check the backup's backends by, where their route sets no `health_check` of its own."""
    return_after: Duration = 10.0
    """How long this route's own backends must be back without a break before they serve again."""
    rewrite_host: bool = False
    """Whether the backup's backends see `backup_domain` in Host instead of what the client asked for."""

    @field_validator("backup_domain")
    @classmethod
    def _domain(cls, value: str) -> str:
        if not value.strip():
            raise ValueError("this is empty: write the domain of another route")
        return value.strip().rstrip(".") if " " in value.strip() else value.strip().rstrip(".").lower()

    @field_validator("health_check")
    @classmethod
    def _path(cls, value: str) -> str:
        if value and not _PATH(value):
            raise ValueError(f'"{value}" is not a path: begin it with / and percent-encode what is not ASCII')
        return value

    @property
    def host(self) -> bytes:
        """The Host to send; empty for the client's."""
        return self.backup_domain.split(" ")[0].encode() if self.rewrite_host else b""


def uses(settings: FailoverSettings) -> Iterable[Use]:
    """The route that serves instead, which must not lead back here."""
    check = settings.health_check
    yield Use("route", settings.backup_domain, ("backup_domain",), acyclic=True, health_check=check)
