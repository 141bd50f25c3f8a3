"""The REST API: the client library over HTTP, one file for each resource."""
