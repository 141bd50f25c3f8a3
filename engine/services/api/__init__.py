"""The REST API: the client library over HTTP, one file a noun."""
