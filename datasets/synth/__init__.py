"""Generated data whose every factor is known exactly, for use without a download."""
