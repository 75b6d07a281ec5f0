"""The command `wschat`: what an operator does beside the server (docs/operate.md)."""
