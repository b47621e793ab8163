"""What each benchmark measures: one module each, `measure(...)` gives rows of ratios taken side by side in one run."""
