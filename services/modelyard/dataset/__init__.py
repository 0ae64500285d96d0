"""The dataset service: takes data in, checks it, splits it and freezes it into versions."""
