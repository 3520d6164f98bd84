"""One page to look at: what was measured, on which data, how to check it, how to make it again.

Each part of the page is one module that reads artifacts and returns plain values, and one template of the
same name; `page.py` puts them together. A further part adds a module, a template and a line in
`page.SECTIONS`.
"""
