"""Tasks, data in memory, and the fine-tune loop: `resolve_task`, `prepare`, `fine_tune`."""
