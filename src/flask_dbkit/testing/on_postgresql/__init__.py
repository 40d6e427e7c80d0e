"""PostgreSQL for tests: a private server, databases, emptied tables."""
