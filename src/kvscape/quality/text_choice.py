"""Which text is scored: one of the hub by name, a file, or the built-in one."""

from dataclasses import dataclass
from pathlib import Path

from kvscape.errors import ConfigError
from kvscape.hub import Progress, silent
from kvscape.plain_text import FIELD, Text, built_in_text, joined_text, text_from_file


@dataclass(frozen=True)
class TextChoice:
    """As the flags say it; nothing chosen is the built-in evaluation text. Raises ConfigError for a contradiction."""

    text: Path | None = None
    text_field: str | None = None
    dataset: str | None = None
    split: str | None = None

    def __post_init__(self) -> None:
        if self.text is not None and self.dataset is not None:
            raise ConfigError(f"two texts, {self.text} and {self.dataset}", "one is scored", "give text or dataset")
        if self.text_field is not None and self.text is None:
            raise ConfigError(f"text_field = {self.text_field}", "there is no file of text", "name it as text")
        if self.split is not None and self.dataset is None:
            raise ConfigError(f"split = {self.split}", "there is no dataset", "name a dataset too")
        if self.dataset is not None:
            from kvscape.quality.datasets import find_dataset

            find_dataset(self.dataset, self.split)

    def read(self, protocol: str, progress: Progress = silent) -> Text:
        """The text as ``protocol`` joins it. Raises ConfigError or HubError for one that cannot be had."""
        if self.dataset is not None:
            from kvscape.quality.datasets import dataset_text

            return dataset_text(self.dataset, self.split, protocol, progress)
        if self.text is None:
            return built_in_text()
        if self.text.suffix.lower() == ".parquet":
            from kvscape.quality.parquet import read_column

            rows = read_column(self.text, self.text_field or FIELD)
            return joined_text(self.text.stem, rows, "\n\n", self.text)
        return text_from_file(self.text, self.text_field)
