"""The pages of the site: years, airports, days and events. Pure: frames in, HTML out.

frames      what a page is made of, and summaries of the network
contexts    from frames to the figures of each page
charts      drawings as SVG; geography: the map of airports
render      the pages; templates/ has their markup
"""
