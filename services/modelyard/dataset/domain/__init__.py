"""The subject of the dataset service: layouts, types of columns, checks, duplicates, splits. No network, no database."""
