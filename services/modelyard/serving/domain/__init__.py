"""The subject of serving: endpoints, versions, tensors as callers send them, and the rules about them."""
