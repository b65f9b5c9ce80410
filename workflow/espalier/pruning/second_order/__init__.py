"""Second-order removal of structures with a budget: the algebra of ZipLM and SPDY, as functions of tensors."""
