"""Candidate operations: names, parameters and MACs, a file per family."""
