"""The served site below /flights/: the pages of `reporting.site`, live from the warehouse, with feedback and an API.

app        routes of the pages, headers, answers to errors
auth       the visitor's session of Superset
data       the rows of a page, from the warehouse as a login that only reads
flights    the flights of a day, from silver
feedback   forms that change feedback: origin, token, rate, writing
api        /flights/api/: rows as JSON and CSV
inputs     types of the parts of an address
"""
