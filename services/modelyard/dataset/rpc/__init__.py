"""The dataset service's contract: convert, call, convert."""
