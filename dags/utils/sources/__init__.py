"""Years of flights into bronze, whole or not at all.

bronze    a CSV of a person or of a fetch becomes the year's file
fetch     a year from the Bureau or from Kaggle, as it is published now
record    where the year's CSV was fetched from, beside it in the lake
bts       the Bureau's months, from its server or a folder, and the year's CSV made from them
kaggle    Kaggle's years
download  one file over HTTP
archive   a zip that holds one CSV
"""

SOURCES = ("bts", "kaggle")
