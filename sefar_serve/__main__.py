"""`python -m sefar_serve` is the command `sefar`."""

from sefar_serve.cli import main

main()
