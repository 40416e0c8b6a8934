"""Load years of flights into bronze, each year completely or not at all.

bronze    copy a CSV into bronze as the year's file
fetch     fetch a year from the Bureau or from Kaggle
record    the JSON record of a fetch, next to the CSV in bronze
bts       get the Bureau's months from its server or a folder, and write the year's CSV
kaggle    download a year from Kaggle
download  download one file over HTTP
archive   read a zip that contains one CSV
"""

SOURCES = ("bts", "kaggle")
