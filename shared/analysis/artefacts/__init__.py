"""Trained weights as Python modules: importing one is the only way to load it, so the analysis stays free of I/O."""
