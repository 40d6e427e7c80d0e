"""Tests of what the library does to engines, one module per database and concern."""
