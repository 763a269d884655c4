"""Probes: does a model understand the sentence? Each module here adds one entry or more to `probe.PROBES`.

A probe changes the image or the sentence of a sample in a way whose effect is known, and compares the new prediction
with the old one or with the truth. To add one, write a module with a class like those beside it. `probing.load` finds
it.
"""
