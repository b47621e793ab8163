"""Batched transforms whose drawing (`sample`) and application (`apply`) are apart."""
