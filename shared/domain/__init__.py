"""What the router talks about, in the standard library only: requests, models, policy, money, identity, errors."""
