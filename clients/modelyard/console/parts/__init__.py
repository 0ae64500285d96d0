"""What pages are made of, named by what it is."""
