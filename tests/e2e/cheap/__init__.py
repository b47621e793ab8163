"""A method, a data set and an evaluation that cost next to nothing, to test what a sweep does around them."""
