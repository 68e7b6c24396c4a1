"""Plain supervised training: nothing here knows of a search."""
