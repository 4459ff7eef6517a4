"""Sound files and video containers: read, cut, listened to.

What lies in a file is told in samples, pictures and seconds. No corpus, feature or model is known
here.
"""
