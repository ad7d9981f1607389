"""A compiled model as a C project: header, library, weights, self-test, example, build file."""
