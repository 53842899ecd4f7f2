"""Read transcripts of any common format into episodes.

::

    load        files -> episodes; what is reported
      files       paths -> files; what is left out
      decode      bytes -> text, with the limits on size and encoding
      detect      text -> name of its format
      plain       txt and Markdown with labels of any style, or none
      subtitles   WebVTT and SubRip
      json_shapes Podcasting 2.0, Whisper and its kin
      html        Podcasting 2.0 HTML, other pages of speech
      tables      tsv, csv and Audacity labels
        labels      which of the things before a colon are speakers
        turns       segments -> turns
          names     which names are one speaker's
          clean       words without markup, tags and times
          times       clock times -> seconds
"""

from __future__ import annotations

from toolkit.transcripts.load import load_episodes

__all__ = ["load_episodes"]
