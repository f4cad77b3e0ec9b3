"""`edgepatch demo`: one backbone, several tasks, on real images out of the package index."""
