"""The SQLite store: predictions, events and where every stream stands, in one file."""
