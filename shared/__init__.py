"""LLM Router: the domain, the pure engines, the services and the adapters."""
