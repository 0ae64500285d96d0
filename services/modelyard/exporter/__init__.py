"""The exporter service: model versions become artifacts for their hardware."""
