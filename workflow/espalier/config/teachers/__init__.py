"""Settings and checks of teachers that somebody has fine-tuned already."""
