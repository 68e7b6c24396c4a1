"""The method: gates, objective, and the steps of a search."""
