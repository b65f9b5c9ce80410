"""The compression methods, one file each; base.py is their contract with the training loop."""
