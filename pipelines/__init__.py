"""The commands; the only place that knows the whole way."""
