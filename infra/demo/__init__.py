"""A month of made-up traffic for a running local stack: `python -m infra.demo`, `make demo-data`."""
