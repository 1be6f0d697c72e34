"""The ASGI shells: the page flow (middleware), and the routes under the prefix (pages)."""
