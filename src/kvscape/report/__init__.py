"""Report: from records and CSV files to figures, tables and one page. Nothing here runs a model."""
