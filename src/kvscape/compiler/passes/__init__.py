"""One pass a file; compiler/pipeline.py puts them in order."""
