"""Offline training of the artefacts that `shared.learning` reads. Never imported by the Function App."""
