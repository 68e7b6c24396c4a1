"""Functions that make search spaces."""
