"""Adapters that carry notifications to people."""
