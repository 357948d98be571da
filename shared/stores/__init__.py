"""Adapters to state: PostgreSQL, Redis, queues, files, and an in-memory twin of every port."""
