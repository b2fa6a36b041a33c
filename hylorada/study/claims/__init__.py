"""Every published statement and what a program finds about it: rules as rows of data, verdicts computed."""
