"""`python -m lb_core.cli` is `lb`."""

from lb_core.cli import main

main()
