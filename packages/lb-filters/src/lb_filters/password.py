"""`python -m lb_filters.password [NAME]`: hashes a password for `basic_auth`.

Asks for it on a terminal; else reads one line. With a name the line is one for a htpasswd file.
"""

from __future__ import annotations

import argparse
import getpass
import sys

from lb_filters.hashes import COST, HIGHEST_COST, make_hash


def main(arguments: list[str] | None = None) -> int:
    """Print the hash; 1 where the password cannot be used."""
    parser = argparse.ArgumentParser(prog="python -m lb_filters.password", description=__doc__.partition("\n")[0])
    parser.add_argument("name", nargs="?", default="", help="a user's name: print a line for a htpasswd file")
    parser.add_argument("--cost", type=int, default=COST, choices=range(4, HIGHEST_COST + 1), metavar="4-16")
    options = parser.parse_args(arguments)
    if any(sign in options.name for sign in ":\r\n"):
        parser.error("a name holds no colon")
    try:
        hashed = make_hash(_asked().encode(), options.cost)
    except ValueError as error:
        print(f"password: {error}", file=sys.stderr)
        return 1
    print(f"{options.name}:{hashed}" if options.name else hashed)
    return 0


def _asked() -> str:
    """The password. Raises ValueError where it was not typed twice the same."""
    if not sys.stdin.isatty():
        return sys.stdin.readline().rstrip("\r\n")
    password = getpass.getpass("password: ")
    if getpass.getpass("again: ") != password:
        raise ValueError("the two are not the same")
    return password


if __name__ == "__main__":
    sys.exit(main())
