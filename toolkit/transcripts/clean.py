"""Take everything out of a text that nobody said: markup, sound tags, times."""

from __future__ import annotations

import html
import re

from toolkit.transcripts.times import CLOCK

# Only tags that subtitles and transcripts really use: talk about code has `vector<int>` and `x < y`.
_HTML_TAG = re.compile(
    r"</?(?:a|b|big|c|cite|code|em|font|i|img|lang|mark|rt|ruby|s|small|span|"
    r"strong|sub|sup|time|u|v)(?:[\s./][^<>]{0,300})?>",
    re.IGNORECASE,
)
_BREAK_TAG = re.compile(r"</?(?:blockquote|br|div|h[1-6]|li|ol|p|ul)(?:[\s/][^<>]{0,300})?>", re.IGNORECASE)
_CUE_TIME = re.compile(rf"<{CLOCK}>")
# Stops at the next opening: a file full of them would otherwise be searched to its end from each.
COMMENT = re.compile(r"<!--[^<]*(?:<(?!!--)[^<]*)*?-->")
"""A comment of HTML or Markdown."""

_ENTITY = re.compile(r"&(?:#\d{1,7}|#x[0-9a-f]{1,6}|[a-z][a-z0-9]{1,30});", re.IGNORECASE)

_SOUND = (
    r"applaus(?:e|es)|applauds?|beeps?|beeping|bleeps?|bleeped|blank[ _]audio|breath(?:es|"
    r"ing)|chatter(?:ing)?|cheer(?:s|ing)|chimes?|chiming|chuckl(?:e|es|ing)|claps|clapping|"
    r"clears?(?: \w+)? throat|coughs?|coughing|cross[- ]?talk|cry(?:ing)?|foreign(?: language)?|"
    r"gasp(?:s|ing)?|giggl(?:e|es|ing)|groan(?:s|ing)?|inaudible|indiscernible|indistinct|"
    r"jingle|laugh(?:s|ing|ter)?|music(?:al)?|nois(?:e|es)|overlapping|pauses?|silence|"
    r"sighs?|sighing|sings|singing|sniff(?:s|les|ing)?|snorts?|sobs?|sobbing|"
    r"sound(?: effects?)?|static|theme(?: song)?|unclear|unintelligible|vocali[sz]ing|whispers?|"
    r"whispering|whistl(?:es|ing)|yawns?"
)
_META = r"sic|redacted|no audio|no speech|speaker[ _]turn|voice|voices|ad break|break|disfmarker|vocalsound"

_ANGLED = re.compile(rf"<(?:{_SOUND}|affirmative|negative)>", re.IGNORECASE)
# In square brackets a few words around the sound still make a tag ("[Ann and Bob laugh]"); round ones are
# ordinary punctuation too, so there the sound must end the remark and nobody may be speaking of himself.
_IN_BRACKETS = re.compile(
    r"[^\w\[\]]*"
    r"|(?:all|both|everyone|audience|crowd)\s\w+"
    rf"|(?:[^\[\]]{{0,60}}\s)?(?:{_SOUND}|{_META})(?:\W[^\[\]]{{0,60}})?"
    rf"|(?:at\s)?{CLOCK}(?:\s*(?:-->|[-–—])\s*{CLOCK})?",
    re.IGNORECASE,
)
_IN_PARENTHESES = re.compile(
    rf"(?:(?!(?:i|we|you|he|she|they|it|the|a|my|your|our|no|some|more)\s)[\w'’-]+\s(?:(?:and|with)\s)?){{0,2}}"
    rf"(?:{_SOUND})|{CLOCK}|[?]+",
    re.IGNORECASE,
)
# A bracket right after a word belongs to code ("a[0]").
_BRACKETED = re.compile(r"(?<!\w)\[([^\[\]]{0,200})\]")
_ASIDE = re.compile(r"\(([^()]{1,60})\)|(?<!\S)\*([^*\s]{1,20}(?: [^*\s]{1,20}){0,2})\*")
_BRACED = re.compile(r"\{(?:\\[^{}]{0,60}|[A-Za-z][\w '-]{0,40})\}")
_NOTES = re.compile("[♩♪♫♬]+")
_SURROGATE = re.compile("[\ud800-\udfff]")

# Stands where a tag was until it is known whether a word or a comma follows.
_GONE = "\x00"
# The comma of "so [laughs], yes" goes to the word before, unless that has its own, or belongs to another line
# (segment): then one episode would have other words in a format that tells its speakers apart.
_MARK_TO_DROP = re.compile(r"(^|\n|[.,;:!?…])[^\S\n]*\x00[\s\x00]*[.,;:!?]+(?=\s|$|\x00)")
_BEFORE_MARK = re.compile(r"\s*\x00[\s\x00]*(?=[.,;:!?][\"'”’)]*(?:\s|$))")

_IMAGE = re.compile(r"!\[[^\[\]]{0,500}\]\([^()\s]{0,2000}(?:\s\"[^\"]{0,200}\")?\)")
_LINK = re.compile(
    r"(?<!\\)\[([^\[\]]{1,500})\]"
    r"(?:\((?:[^()\s]|\([^()\s]{0,200}\)){0,2000}(?:\s+\"[^\"]{0,200}\")?\)|\[[^\[\]]{0,100}\])"
)
_AUTOLINK = re.compile(r"<((?:https?://|mailto:)[^<>\s]{1,2000})>")
_CODE = re.compile(r"(`{1,3})([^`\n]{1,2000})\1")
# The marks of emphasis touch words on their inner sides only, which leaves `snake_case` and `2 * 3` alone.
# What they enclose is free of them, so that the search from an unpaired mark ends at the next one.
_EMPHASIS = re.compile(
    r"(?<![\w\\*])(?P<mark>\*{1,3})(?=[^\s*])(?P<words>[^*]{1,2000})(?<=[^\s\\])(?P=mark)(?!\w)"
    r"|(?<![\w\\_])(?P<line>_{1,3})(?=[^\s_])(?P<lined>(?:[^_]|(?<=\w)_(?=\w)){1,2000})(?<=[^\s\\])(?P=line)(?![\w_])"
    r"|~~(?P<struck>[^~]{1,2000})~~"
)
_ESCAPED = re.compile(r"\\([\\`*_{}\[\]()#+\-.!<>~|\"'])")


def one_line(text: str) -> str:
    """Collapse white space; replace half surrogate pairs, which nothing can encode."""
    return " ".join(_SURROGATE.sub("\N{REPLACEMENT CHARACTER}", text).split())


def words_only(text: str) -> str:
    """Return the words spoken as one line.

    Parameters
    ----------
    text : str
        Words with the tags of subtitles, HTML entities, ``[MUSIC]``, ``{disfmarker}``, ``(laughs)``,
        ``[00:03:18.16]`` and the like between them.

    Returns
    -------
    str
        Without those. Other words in square brackets are an editor's ("our [annual] meeting"): they stay
        and lose their brackets.
    """
    text = _CUE_TIME.sub("", COMMENT.sub(" ", text.replace(_GONE, " ")))
    text = _BREAK_TAG.sub(" ", text)
    text = _ANGLED.sub(_GONE, _HTML_TAG.sub("", text))
    text = _ENTITY.sub(lambda entity: html.unescape(entity[0]), text)
    text = _NOTES.sub(_GONE, _BRACED.sub(_GONE, text))
    text = _BRACKETED.sub(lambda found: _GONE if _is_tag(found[1]) else found[1], text)
    text = _ASIDE.sub(lambda found: _GONE if _is_stage_direction(found[1] or found[2]) else found[0], text)
    text = _BEFORE_MARK.sub("", _MARK_TO_DROP.sub(rf"\1{_GONE}", text))
    return one_line(text.replace(_GONE, " "))


def without_markdown(text: str) -> str:
    """Return Markdown as the words a reader sees: no emphasis, code marks, escapes; links as their text."""
    text = _AUTOLINK.sub(r"\1", _LINK.sub(r"\1", _IMAGE.sub(" ", text)))
    text = _CODE.sub(r"\2", text)
    for _ in range(3):  # bold around italics around struck out
        text = _EMPHASIS.sub(_without_emphasis, text)
    return _ESCAPED.sub(r"\1", text)


def _is_tag(inside: str) -> bool:
    return _IN_BRACKETS.fullmatch(inside.strip()) is not None


def _is_stage_direction(inside: str) -> bool:
    return _IN_PARENTHESES.fullmatch(inside.strip()) is not None


def _without_emphasis(found: re.Match[str]) -> str:
    words = found["words"] or found["lined"] or found["struck"]
    return _GONE if _is_stage_direction(words) else words
