"""What is said about models: scores, sizes, times, cards, tables, the report."""
