"""``python -m janflask.cli``."""

from janflask.cli import main

main()
