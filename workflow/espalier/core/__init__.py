"""The parts that methods and stages share; see `../../../README.md` for the order of imports."""
