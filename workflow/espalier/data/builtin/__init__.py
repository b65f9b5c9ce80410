"""The built-in tasks, made from the documentation of the installed packages."""
