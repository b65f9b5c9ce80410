"""What cards, table and report read of the configuration."""
