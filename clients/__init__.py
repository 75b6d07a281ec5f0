"""Programs over wschat.client."""
