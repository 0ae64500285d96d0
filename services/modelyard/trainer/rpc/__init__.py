"""The contract's side: convert, call a handler, convert."""
