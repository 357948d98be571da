"""Request and response bodies: JSON and dicts stop here."""
