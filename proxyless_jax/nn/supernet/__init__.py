"""Mixed edges: all candidates have parameters, one path runs."""
