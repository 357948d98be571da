"""One module for each family of sensitive content; `shared.analysis.security` runs them all."""
