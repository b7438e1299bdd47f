"""A model's name becomes a local file or folder."""

from kvscape.hub.cache import cache_dir
from kvscape.hub.packages import PACKAGES, Package
from kvscape.hub.progress import DownloadBar, Progress, silent
from kvscape.hub.resolve import fetch_dataset_file, resolve

__all__ = ["PACKAGES", "DownloadBar", "Package", "Progress", "cache_dir", "fetch_dataset_file", "resolve", "silent"]
