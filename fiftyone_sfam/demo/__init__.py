"""A synthetic re-identification world with known defects, and a network trained on it.

``world`` generates it, ``dataset`` loads it into FiftyOne, and ``network`` loads the
embedder. No picture shows a real person.
"""
