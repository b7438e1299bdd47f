"""A column of text in a parquet file."""

from pathlib import Path

from kvscape.errors import ConfigError, near_match


def read_column(path: Path, column: str) -> list[str]:
    """The strings of a column, an absent value being an empty one.

    Raises ConfigError when the file is missing or no parquet file, or the column is not there or holds no text.
    """
    import polars as pl  # half a second, and most texts are no parquet files

    try:
        schema = pl.read_parquet_schema(path)
        if column not in schema:
            raise ConfigError(f"{path} has no column {column!r}", "", near_match(column, schema))
        if schema[column] != pl.String:
            raise ConfigError(f"column {column!r} of {path} is no text", f"it holds {schema[column]}", "name another")
        return pl.read_parquet(path, columns=[column])[column].fill_null("").to_list()
    except OSError as error:
        raise ConfigError(f"cannot read {path}", error.strerror or str(error), "give a text") from None
    except (pl.exceptions.PolarsError, pl.exceptions.PanicException) as error:
        why = str(error).splitlines()[0]
        raise ConfigError(f"{path} is no parquet file, or damaged", why, "give another, or download it again") from None
