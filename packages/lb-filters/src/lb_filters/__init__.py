"""Edge features for lb: redirects, rewrites, header edits, authentication, compression."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lb_core import Feature, hookimpl
from lb_filters import (
    allow_clients,
    basic_auth,
    compression,
    edit_headers,
    forward_auth,
    redirect,
    respond,
    rewrite,
)

if TYPE_CHECKING:
    from collections.abc import Iterator


@hookimpl
def register_features() -> Iterator[Feature]:
    """The features, each in a module of its own."""
    for module in (redirect, rewrite, respond, edit_headers, basic_auth, allow_clients, forward_auth, compression):
        yield module.FEATURE
