"""A Vertex AI that runs on this machine: the true wire forms by gRPC and HTTP, with latency, quality and faults.

Nothing here calls a model, and every answer says so. `python -m infra.local.simulator` starts it; docs/simulator.md
describes it. Production code never imports this package.
"""
