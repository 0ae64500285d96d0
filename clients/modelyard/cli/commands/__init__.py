"""One module a command; each is imported when its command runs, and each holds it as `app`."""
