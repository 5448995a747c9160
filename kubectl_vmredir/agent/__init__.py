"""The background process that keeps redirections up, and its client."""
