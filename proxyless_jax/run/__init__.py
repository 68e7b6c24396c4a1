"""RUNNING it: the only place with side effects."""
