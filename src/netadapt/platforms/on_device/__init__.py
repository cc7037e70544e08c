"""Scripts that run where a file is timed, with Python's own library and one runtime; they are started by path."""
