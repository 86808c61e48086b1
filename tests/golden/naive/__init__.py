"""Naive float64 transcriptions of every method's formula: the oracles of the golden tests.

One module per method, plain loops over samples and classes, nothing shared with the package under
test. Every score follows the house convention: higher = more out-of-distribution. Import the
functions from their modules (`from naive.gradnorm import gradnorm`).
"""
