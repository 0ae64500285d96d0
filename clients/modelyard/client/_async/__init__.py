"""The asyncio client; the source that the sync one is generated from."""
