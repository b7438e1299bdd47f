"""From a model's description to a library for one target. Needs all of TVM; the engine does not import it."""
