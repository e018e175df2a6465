"""Support code of the tests: fakes, reference implementations, small models and runs, comparisons."""
