"""What the router reads of a request before it chooses a model. Pure."""
