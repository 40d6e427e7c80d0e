"""The documentation agrees with the code, and its snippets run."""
