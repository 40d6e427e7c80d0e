"""What the tests stand on: databases, a PostgreSQL launcher, a browser."""
