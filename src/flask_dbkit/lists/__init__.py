"""Query string in, page out.

Without Flask: a ``Session`` and plain values in, a page out.

========================  ==============================================================
:mod:`~.reader`           from what is asked of a list to a page
:mod:`~.query`            a query string as a value, or every mistake at once
:mod:`~.planner`          a statement with order and criteria, built once per form
:mod:`~.keyset`           the rows after a keyset
:mod:`~.offset`           the rows of a page by its number
:mod:`~.counting`         how many rows there are
:mod:`~.cursor`           a keyset as signed text, and back
:mod:`~.codecs`           key values exactly as the database compares them
:mod:`~.pages`            pages as values, with their addresses and JSON
========================  ==============================================================
"""
