"""One port for gRPC and HTTP/1.1: the front end of a server, in plain Python on asyncio."""
