"""The choice of a model: eligibility, factors, weights, decision. Pure."""
