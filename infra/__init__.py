"""Infrastructure: the local stack, and what deploys the cloud one."""
