"""A framework for bridges between Matrix and other chat networks: facts come in, a pure plan decides, verbs go out."""

__version__ = "0.1.0"
