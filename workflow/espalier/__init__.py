"""Espalier: compress Transformer encoders by pruning and distillation."""
