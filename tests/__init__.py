"""The test suite: mirrors ``src/``, runs on every real database it can reach."""
