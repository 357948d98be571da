"""The local stack: a supervisor, a host for the Function App, and a Vertex AI simulator. `shared` knows none of it."""
