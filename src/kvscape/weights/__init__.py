"""From a file of weights in somebody's format to the artefact's own weights."""
