"""The verbs of ``rrsis-bench``, one module per group; each has `add`, which adds its parsers."""
