"""The recorded runs: long trainings whose numbers and weights the book ships and prints.

`nemlib list` shows them, `nemlib train NAME --preset smoke|book|full` runs one, and
`results.load(NAME)` reads what was recorded. Another chapter's experiments are one file here, beside
`gibbs.py`, that defines `EXPERIMENTS`, and one line in `catalogue.py`; the published numbers to print
beside them are a table in `results/published.toml`.
"""
