"""Kinds of task: all that training and evaluation need to know of each, one file a kind."""
