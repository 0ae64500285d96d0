"""What every service stands on: errors, names, settings, the rpc shell, artifacts, the database, jobs."""
