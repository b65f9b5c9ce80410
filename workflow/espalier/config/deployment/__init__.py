"""What is made of a model for those who use it: the formats that it is written in. No torch here."""
