"""Adapters that prove who calls."""
