"""python -m ndpresponder."""

from .cli import main

main()
