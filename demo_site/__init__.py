"""Basisschool De Linde: an ordinary school site with trackers in its templates, served behind consentkit.

`app` is the school's site and knows nothing of consentkit; `site` adds it; `outside` plays the trackers.
"""
