"""What runs left behind, as tables."""
