"""What a server must bear for long: loads and unloads, switches under load, steady load, callers that go away."""
