"""What runs in a process of its own: imports, quality reports, publications."""
