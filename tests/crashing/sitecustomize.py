"""Python loads this at its start if its folder is on PYTHONPATH: photos that hold a mark kill whoever opens them.

A crash of native code is not to be had at will, so the process sends itself the signal that one ends in.
"""

import importlib.abc
import importlib.util
import os
import signal
import sys

MARK = b"this photo kills its decoder"


class _Finder(importlib.abc.MetaPathFinder):
    """Changes Pillow when it is loaded, and costs nothing where it is not."""

    def find_spec(self, name, path, target=None):
        if name != "PIL.Image":
            return None
        sys.meta_path.remove(self)
        spec = importlib.util.find_spec(name)
        load = spec.loader.exec_module

        def exec_module(module):
            load(module)
            opens = module.open

            def open_or_die(file, *args, **kwargs):
                if hasattr(file, "getvalue") and MARK in file.getvalue():
                    os.kill(os.getpid(), signal.SIGSEGV)
                return opens(file, *args, **kwargs)

            module.open = open_or_die

        spec.loader.exec_module = exec_module
        return spec


sys.meta_path.insert(0, _Finder())
