"""What models look like inside."""
