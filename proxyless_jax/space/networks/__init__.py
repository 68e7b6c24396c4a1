"""Networks: what edges are joined to, a file per family."""
