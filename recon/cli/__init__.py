"""Command line. Each command has a module of its own, which is imported when it is called."""
