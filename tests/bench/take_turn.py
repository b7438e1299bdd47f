"""Takes a turn to measure and keeps it until its stdin ends; says on stdout when it waits and when it has it."""

import sys

from kvscape.bench import turn


def main() -> None:
    with turn(lambda: print("waits", flush=True)):
        print("has", flush=True)
        sys.stdin.read()


if __name__ == "__main__":
    main()
