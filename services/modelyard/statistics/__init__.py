"""Intervals, tests of significance and suspected labels, one of each, for whoever measures: scores, losses, quality reports."""
