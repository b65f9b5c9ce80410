"""From an exported folder to every format in which it is served: writing it, opening it, scoring and timing it."""
