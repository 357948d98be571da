"""Use cases: what the endpoints and jobs do; they talk to ports."""
