"""The site, the plots, and the wording of numbers and dates."""
