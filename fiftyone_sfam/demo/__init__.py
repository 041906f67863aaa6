"""A synthetic re-identification world with known defects, and a network trained on it.

``world`` generates it, ``dataset`` loads it into FiftyOne, ``network`` holds the
embedder and ``train`` is how that was trained. No picture shows a real person.
"""
