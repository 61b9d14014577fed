"""`python -m trimtab`: the command line."""

from trimtab.cli import app

app(prog_name="trimtab")
