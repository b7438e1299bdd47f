"""``python -m kvscape``."""

from kvscape.cli.main import main

main()
