"""Colours of the plots and of the pages in light mode, which site.css repeats.

Shape says the kind of a day, colour its severity. The hues are those of Okabe and Ito, "Color Universal Design", 2008,
which people with any common colour vision can distinguish; the severities also differ in lightness.
"""

PAPER, INK = "#FFFFFF", "#222222"
MILD, STRONG, EXTREME = "#F6C4A3", "#D55E00", "#7A2E00"
EARLY = "#009E73"
EDGE = STRONG  # outline of mild marks, which are too light to be seen without it
DEPARTED, CANCELLED = "#7FA8C9", "#1F3A5F"
OBSERVED, EXPECTED, BAND = "#4D4D4D", "#0072B2", "#BFE0F5"
NO_FLIGHTS, HATCH, NOT_JUDGED, GRID = "#EFEFEF", "#BDBDBD", "#F3EAD0", "#D9D9D9"
