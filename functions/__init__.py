"""The edge: HTTP, queue and timer functions. Imports services through the container, never an adapter."""
