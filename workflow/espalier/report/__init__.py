"""Figures, the report page, model cards and the pages of studies."""
