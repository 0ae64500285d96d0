"""The files that pass between services: pictures, dataset versions, model files, bundles. Each module reads and writes one."""
