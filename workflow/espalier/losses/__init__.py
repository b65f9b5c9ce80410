"""Loss terms: plain functions of tensors."""
