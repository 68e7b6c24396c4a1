"""Several hosts, and signals that end a run."""
