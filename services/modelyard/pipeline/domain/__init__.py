"""The journey: its steps, its rules, and how far it is."""
