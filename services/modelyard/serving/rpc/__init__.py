"""From the contracts to the handlers and back."""
