"""The database file: connection, rows, validation and the erasure guard."""
