"""What is done with whole models, without training: their outputs, their exported forms, their times by size."""
