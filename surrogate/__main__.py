"""`python -m surrogate` is the command `surrogate`."""

from surrogate.cli import main

main()
