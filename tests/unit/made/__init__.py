"""Small data of the tests, by dotted names: `data: {name: made.tones}`."""
