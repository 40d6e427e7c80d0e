"""Lazy attributes that load for the whole result at the first touch.

Touching a relationship, a deferred column or an expired object loads it for its *peers*, too: the
other objects of the same query result. The object graph is the one plain lazy loading gives;
where that cannot be promised, plain lazy loading happens.
"""
