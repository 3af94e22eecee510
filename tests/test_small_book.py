"""The small book of the tests builds in any process."""

import weakref

import small_book


class Thing:
    """Something that a weak proxy can point at."""


def test_a_book_builds_beside_a_weak_proxy_whose_object_has_died(tmp_path):
    thing = Thing()
    dead = weakref.proxy(thing)
    del thing
    built = small_book.build(small_book.write_book(tmp_path / "book", {"a": "# A page\n\nWords."}))
    assert "Words." in built.page("book/a")
    assert type(dead) in weakref.ProxyTypes
