"""The local stack: a supervisor, a host for the Function App, and a Vertex AI simulator. Nothing in `shared` knows it."""
