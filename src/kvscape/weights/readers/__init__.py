"""One file per format of weights; each gives a ``Source``."""
