"""Scripts that convert networks in a process of their own; `runtimes/conversion_client.py` starts them by path."""
