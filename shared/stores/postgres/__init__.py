"""The system of record: connection pool, migrations and the ledger."""
