"""The models of the book *From Gibbs sampling to Neural Expectation-Maximization*.

One model family a file, one training loop for all of them, and the data they are shown.
Imports run downwards: exercises, explore and experiments use models; models use
training and evaluate; those use data.
"""

__version__ = "0.1.0"
