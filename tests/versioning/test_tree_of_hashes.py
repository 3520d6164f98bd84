"""The hash of a folder, against dvc-data's own."""

from __future__ import annotations

import hashlib

from dvc_data.hashfile.hash_info import HashInfo
from dvc_data.hashfile.tree import Tree

from metaloom.versioning.objects import tree_of_hashes


def test_a_folder_has_the_hash_that_dvc_gives_it():
    names = [("b",), ("a", "z.png"), ("a", "Ä 1"), ("a-b", "x"), ("a", "b", "c"), ('"', "\\\n"), ("\udcff",), ("漢",)]
    files = {parts: hashlib.md5(bytes([place])).hexdigest() for place, parts in enumerate(names)}
    for some in (files, dict(reversed(files.items())), {}):
        tree = Tree()
        for parts, oid in some.items():
            tree.add(parts, None, HashInfo("md5", oid))
        tree.digest()
        assert tree_of_hashes(some) == tree.oid
