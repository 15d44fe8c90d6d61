"""Slides: whole-slide images, nuclei, patches, collections and magnification. Needs the extra ``slides``."""
