"""The served site below /flights/: the pages of `reporting.site`, live from the warehouse, with feedback and an API.

app        the application and the routes of the pages
errors     headers of every answer, answers to errors
layout     what is around every page
rendered   pages that take long to draw, kept until the next run or label
auth       the visitor's session of Superset
data       the rows of a page, from the warehouse as a login that only reads
flights    the flights of a day, from silver
feedback   forms that change feedback: origin, token, rate, writing
api        /flights/api/: rows as JSON and CSV
inputs     types of the parts of an address
"""
