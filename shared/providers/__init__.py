"""Adapters to models: one module per provider family, one mapping for plain and streamed answers."""
