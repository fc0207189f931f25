"""Names that applications give to the cookie of their own session; nobody else should use them."""

from __future__ import annotations

import re

_KNOWN = re.compile(
    r"""
      phpsessid | jsessionid | connect\.sid | rack\.session | play_session | laravel_session | ci_session
    | asp\.net_sessionid | \.aspnetcore\.(session|cookies) | aspsessionid[a-z]{8} | cfid | cftoken
    | wordpress_logged_in_\w+ | (s|sess|sid|session|koa\.sess)
    | _?\w*session[-_.]?(id|key|token)? | \w*sess[-_]?id
    """,
    re.IGNORECASE | re.VERBOSE,
).fullmatch


def is_session_name(name: str) -> bool:
    """Whether a cookie of that name is most likely an application's session."""
    return _KNOWN(name) is not None
