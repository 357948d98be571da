"""What the router learns: the quality that a model will show on a prompt, with its uncertainty. Pure."""
