"""Password hashes: bcrypt (Provos and Mazieres, 1999), as `htpasswd -B` and most tools write it.

    $2y$12$ 22 characters of salt, 31 of hash       $2a$, $2b$ and $2y$ are read alike

A check takes as long as its cost says (12: about 0.2 s), on purpose. Passwords beyond 72 bytes are refused, because
bcrypt would look at the first 72 only.
"""

from __future__ import annotations

import re

COST = 12
"""For new hashes."""
HIGHEST_COST = 16
"""A check of 16 takes seconds; beyond, one request would keep a processor busy for longer than its client waits."""
LONGEST = 72

_BCRYPT = re.compile(r"\$2[aby]\$(\d\d)\$[./A-Za-z0-9]{53}").fullmatch
_HINT = "make one with `python -m lb_filters.password` or `htpasswd -nB NAME`"
_OTHERS = {
    "$apr1$": "Apache's MD5",
    "$1$": "MD5",
    "{SHA}": "SHA-1",
    "{SSHA}": "SHA-1",
    "$5$": "SHA-256",
    "$6$": "SHA-512",
    "$argon2": "Argon2",
    "$y$": "yescrypt",
    "$2": "a damaged bcrypt hash",
}


def check_hash(user: str, text: str) -> None:
    """Raise ValueError unless `text` is a hash that can be checked; the message does not show it."""
    found = _BCRYPT(text)
    if found is None:
        kind = next((kind for begin, kind in _OTHERS.items() if text.startswith(begin)), "")
        what = f"{kind}, which is not checked here" if kind else "a password in plain text, or no hash"
        raise ValueError(f'the password of "{user}" is {what}: a bcrypt hash is wanted, {_HINT}')
    if not 4 <= int(found[1]) <= HIGHEST_COST:
        raise ValueError(
            f'the hash of "{user}" has the cost {int(found[1])}: 4 to {HIGHEST_COST} are possible; {_HINT}'
        )


def matches(password: bytes, hashed: str) -> bool:
    """Whether a password has this hash. Takes long, and lets other threads run meanwhile."""
    import bcrypt

    return len(password) <= LONGEST and bcrypt.checkpw(password, hashed.encode())


def make_hash(password: bytes, cost: int = COST) -> str:
    """A new hash. Raises ValueError for a password that is empty, too long, or holds a NUL."""
    import bcrypt

    if not password:
        raise ValueError("the password is empty")
    if len(password) > LONGEST or b"\0" in password:
        raise ValueError(f"a password has at most {LONGEST} bytes and no NUL: bcrypt looks at no more")
    return bcrypt.hashpw(password, bcrypt.gensalt(cost)).decode()
