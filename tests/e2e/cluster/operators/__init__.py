"""Controllers of a cluster, built of their Go modules by ./build and run as processes of this machine: they need no image."""
