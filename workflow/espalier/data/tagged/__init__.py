"""Sentences with a tag for each word: their files, their checks, and the rows of tokens that are made of them."""
