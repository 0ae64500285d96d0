"""The technologies behind the dataset service's ports."""
