"""A local host for the Function App with the Azure host's semantics (docs/decisions/0002-local-host.md)."""
