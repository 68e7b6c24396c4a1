"""Several hosts as one run, and the signals that end a run."""
