"""What draws figures and makes pages, which a host that only measures may lack."""

from collections.abc import Sequence
from importlib.util import find_spec

from kvscape.errors import ConfigError

FIGURES = ("altair", "vl_convert")
PAGES = ("polars", *FIGURES)


def check_packages(what: str, packages: Sequence[str], do: str) -> None:
    """Raise ConfigError where one of them is missing, before anything is measured for it."""
    missing = [name for name in packages if find_spec(name) is None]
    if missing:
        raise ConfigError(f"no {what} can be made here", f"it takes {', '.join(missing)}, which this host lacks", do)
